//! Where the partitions lie in an image.

use maud::{Markup, html};

use crate::image::Role;
use crate::inspection::{Facts, PartitionFacts};

use super::tables::{self, Column};
use super::words::{percent, size, visible};

/// Hundredths of the bar that the smallest partition takes, so that it can be seen.
const MIN_SHARE: f64 = 0.5;
/// Hundredths of the bar in which a label has room.
const LABELLED_SHARE: f64 = 16.0;

/// A bar with all partitions; `whole` is how many bytes its full width stands for.
pub fn bar(facts: &Facts, whole: u64) -> Markup {
    let described: Vec<String> = facts.partitions.iter().map(describe).collect();
    let description = match described.as_slice() {
        [] => "No partitions".to_owned(),
        all => format!("Partitions from start to end: {}", all.join(", ")),
    };
    html! {
        svg.partitions role="img" aria-label=(description) width="100%" height="44" {
            rect.gap x="0" y="0" width={ (share(facts.size, whole)) "%" } height="44" {}
            @for partition in &facts.partitions {
                @let left = percent(partition.offset, whole).clamp(0.0, 100.0 - MIN_SHARE);
                @let width = percent(partition.size, whole).clamp(MIN_SHARE, 100.0 - left);
                rect class=(class(partition)) x={ (format!("{left:.3}")) "%" } y="0"
                    width={ (format!("{width:.3}")) "%" } height="44" {}
                @if width >= LABELLED_SHARE {
                    text x={ (format!("{:.3}", left + 1.0)) "%" } y="27" {
                        (name(partition)) " · " (size(partition.size))
                    }
                }
            }
        }
    }
}

fn share(part: u64, whole: u64) -> String {
    format!("{:.3}", percent(part, whole).clamp(0.0, 100.0))
}

/// The colour of a partition.
pub fn class(partition: &PartitionFacts) -> &'static str {
    match partition.partition_type.map(|kind| kind.role) {
        Some(Role::Data) => "data",
        Some(Role::Hash) => "hash",
        Some(Role::Signature) => "signature",
        None => "other",
    }
}

fn name(partition: &PartitionFacts) -> String {
    match partition.partition_type {
        Some(kind) => kind.role.to_string(),
        None => visible(&partition.label),
    }
}

fn describe(partition: &PartitionFacts) -> String {
    format!("{} {}", name(partition), size(partition.size))
}

/// What is known of each partition.
pub fn table(facts: &Facts) -> Markup {
    tables::table(
        "Partitions in the order of the table",
        &[
            Column::Words("Label"),
            Column::Words("Type"),
            Column::Words("UUID"),
            Column::Number("Starts at"),
            Column::Number("Size"),
        ],
        &html! {
            @for partition in &facts.partitions {
                tr {
                    th scope="row" {
                        span.swatch .(class(partition)) {} (visible(&partition.label))
                    }
                    td {
                        (name(partition))
                        @if partition.read_only { ", read-only" }
                    }
                    td { code { (partition.uuid) } }
                    td.number { (super::words::count(partition.offset)) }
                    td.number { (size(partition.size)) }
                }
            }
        },
    )
}
