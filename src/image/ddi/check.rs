//! Whether the parts of an image belong together.

use super::{Ddi, DdiError};
use crate::image::partition_type::{PartitionType, Role};

impl Ddi {
    /// Reads superblock and signature, and says what is wrong.
    pub(super) fn fill(&mut self) -> Vec<DdiError> {
        if let Err(fault) = self.check_partitions() {
            // Which partition would be read is not known.
            return vec![fault];
        }
        let mut faults = Vec::new();
        match self.read_verity() {
            Ok(verity) => self.verity = verity,
            Err(fault) => faults.push(fault),
        }
        match self.read_signature() {
            Ok(signature) => self.signature = signature,
            Err(fault) => faults.push(fault),
        }
        faults.extend(self.check_root_hashes().err());
        faults
    }

    /// One data partition, and with it at most one hash and one signature partition of its own.
    fn check_partitions(&self) -> Result<(), DdiError> {
        let path = || self.path.clone();
        let kinds = || {
            self.partitions
                .iter()
                .filter_map(|partition| partition.kind)
        };
        if let Some(hidden) = self
            .partitions
            .iter()
            .find(|partition| partition.is_hidden())
        {
            return Err(DdiError::Hidden {
                path: path(),
                label: hidden.label.clone(),
            });
        }
        let data = kinds()
            .find(|kind| kind.role == Role::Data)
            .ok_or_else(|| DdiError::NoData(path()))?;
        for role in [Role::Data, Role::Hash, Role::Signature] {
            if kinds().filter(|kind| kind.role == role).count() > 1 {
                return Err(DdiError::Several { path: path(), role });
            }
        }
        if let Some(found) = kinds().find(|&kind| {
            PartitionType {
                role: data.role,
                ..kind
            } != data
        }) {
            let path = path();
            return Err(DdiError::Stray { path, found, data });
        }
        if self.partition(Role::Signature).is_some() && self.partition(Role::Hash).is_none() {
            return Err(DdiError::SignatureAlone(path()));
        }
        Ok(())
    }

    fn check_root_hashes(&self) -> Result<(), DdiError> {
        match (self.root_hash(), &self.signature) {
            (Some(spelled), Some(signature)) if signature.root_hash != spelled => {
                Err(DdiError::RootHashes {
                    path: self.path.clone(),
                    spelled,
                    signed: signature.root_hash,
                })
            }
            _ => Ok(()),
        }
    }
}
