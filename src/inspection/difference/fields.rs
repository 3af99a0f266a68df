//! What images say of themselves, side by side.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::image::Designator;
use crate::inspection::facts::Facts;

use super::PartitionFacts;

/// A field whose values differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldDifference {
    /// What it is.
    pub name: String,
    /// Its value in a, if it has it.
    pub a: Option<String>,
    /// Its value in b, if it has it.
    pub b: Option<String>,
}

/// A partition that is not the same in both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionDifference {
    /// `data`, `hash`, `signature`, or the label of another one.
    pub name: String,
    /// What it is in a, if it is there.
    pub a: Option<PartitionFacts>,
    /// What it is in b, if it is there.
    pub b: Option<PartitionFacts>,
}

/// Fields of two release files, in the order of their keys.
pub fn of_releases(
    a: &BTreeMap<String, String>,
    b: &BTreeMap<String, String>,
) -> Vec<FieldDifference> {
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    keys.into_iter()
        .filter_map(|key| field(key, a.get(key).cloned(), b.get(key).cloned()))
        .collect()
}

/// What is said of the images as a whole.
pub fn of_images(a: &Facts, b: &Facts) -> Vec<FieldDifference> {
    let values = |facts: &Facts| {
        let signature = facts.signature.as_ref();
        let verity = facts.verity.as_ref();
        [
            ("kind", facts.kind.map(str::to_owned)),
            ("name", facts.name.clone()),
            ("release file", facts.release_problem.clone()),
            ("size", Some(facts.size.to_string())),
            ("root hash", facts.root_hash.clone()),
            ("salt", verity.map(|verity| verity.salt.clone())),
            ("signature", Some(state_of_signature(facts))),
            (
                "signer",
                signature.and_then(|signature| signature.signer.clone()),
            ),
            (
                "certificate",
                signature.and_then(|signature| signature.certificate_fingerprint.clone()),
            ),
            (
                "certificate valid until",
                signature.and_then(|signature| signature.not_after.clone()),
            ),
            ("compression", Some(compression(facts))),
            (
                "needs Linux",
                Some(facts.file_system.minimum_kernel.clone()),
            ),
            ("file system", Some(facts.file_system.uuid.clone())),
            ("disk", Some(facts.disk_guid.clone())),
            ("partition tables", Some(facts.partition_tables.to_owned())),
        ]
    };
    let both = values(a).into_iter().zip(values(b));
    both.filter_map(|((name, a), (_, b))| field(name, a, b))
        .collect()
}

fn field(name: &str, a: Option<String>, b: Option<String>) -> Option<FieldDifference> {
    (a != b).then(|| FieldDifference {
        name: name.to_owned(),
        a,
        b,
    })
}

fn state_of_signature(facts: &Facts) -> String {
    match &facts.signature {
        Some(signature) if signature.valid => "valid".to_owned(),
        Some(_) => "not valid".to_owned(),
        None if facts.awaits_signature => "none yet".to_owned(),
        None => "none".to_owned(),
    }
}

fn compression(facts: &Facts) -> String {
    match facts.file_system.compression.as_slice() {
        [] => "none".to_owned(),
        algorithms => algorithms.join(" and "),
    }
}

/// Partitions, those of an extension by their role, others by their label.
pub fn of_partitions(a: &[PartitionFacts], b: &[PartitionFacts]) -> Vec<PartitionDifference> {
    let mut names: Vec<String> = Vec::new();
    for name in a.iter().chain(b).map(name_of) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let find = |partitions: &[PartitionFacts], name: &str| {
        let mut named = partitions.iter().filter(|one| name_of(one) == name);
        named.next().cloned()
    };
    names
        .into_iter()
        .map(|name| PartitionDifference {
            a: find(a, &name),
            b: find(b, &name),
            name,
        })
        .filter(|pair| pair.a != pair.b)
        .collect()
}

fn name_of(partition: &PartitionFacts) -> String {
    match partition.partition_type {
        Some(kind) => match kind.designator {
            Designator::Root => kind.role.to_string(),
            Designator::Usr => format!("usr {}", kind.role),
        },
        None => partition.label.clone(),
    }
}
