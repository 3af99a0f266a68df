//! How the layers came about, as far as an engine tells.

use super::api::Step;
use crate::source::History;

/// The history of each of `layers` layers, lowest first, from the engine's steps, highest first.
///
/// The engine does not say which steps left a layer behind. Those with a size did; if that does not
/// come to as many as there are layers, nothing is known of any.
pub(super) fn of_layers(steps: Vec<Step>, layers: usize) -> Vec<History> {
    let with_size = steps.iter().filter(|step| step.size > 0).count();
    let all = steps.len() == layers;
    if !all && with_size != layers {
        return vec![History::default(); layers];
    }
    steps
        .into_iter()
        .rev()
        .filter(|step| all || step.size > 0)
        .map(|step| History {
            created_by: said(step.created_by),
            created: None,
            comment: said(step.comment),
        })
        .collect()
}

fn said(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(steps: &[(&str, i64)], layers: usize) -> Vec<Option<String>> {
        let steps = steps.iter().map(|(command, size)| Step {
            created_by: Some((*command).to_owned()),
            size: *size,
            ..Step::default()
        });
        let history = of_layers(steps.collect(), layers);
        history.into_iter().map(|layer| layer.created_by).collect()
    }

    #[test]
    fn steps_are_matched_to_layers_only_where_their_counts_agree() {
        let steps = [("COPY b", 7), ("ENV x=y", 0), ("ADD a", 5)];
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(commands(&steps, 2), [some("ADD a"), some("COPY b")]);
        assert_eq!(
            commands(&steps, 3),
            [some("ADD a"), some("ENV x=y"), some("COPY b")]
        );
        assert_eq!(commands(&steps, 1), [None]);
        assert_eq!(commands(&[("", 1)], 1), [None]);
    }
}
