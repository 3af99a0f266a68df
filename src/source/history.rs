//! How the layers of an image came about.
//!
//! Source: OCI image specification 1.1, `config.md`, "history".

use serde::Deserialize;

/// How a layer came about, as far as the image's configuration tells. It is text from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The command that made it.
    pub created_by: Option<String>,
    /// When, as RFC 3339 has it.
    pub created: Option<String>,
    /// What its maker remarked.
    pub comment: Option<String>,
}

/// A step of the history, which may have left no layer behind.
#[derive(Debug, Deserialize)]
struct Step {
    created_by: Option<String>,
    created: Option<String>,
    comment: Option<String>,
    empty_layer: Option<bool>,
}

/// The history of each of `layers` layers. It is for information only: where it is damaged or not
/// of these layers, nothing is known of any.
pub(super) fn of_layers(history: &serde_json::Value, layers: usize) -> Vec<History> {
    let steps = Vec::<Step>::deserialize(history).unwrap_or_default();
    let steps: Vec<History> = steps
        .into_iter()
        .filter(|step| step.empty_layer != Some(true))
        .map(|step| History {
            created_by: step.created_by,
            created: step.created,
            comment: step.comment,
        })
        .collect();
    if steps.len() == layers {
        steps
    } else {
        vec![History::default(); layers]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_without_a_layer_are_passed_over() {
        let history = json!([
            {"created_by": "ADD rootfs", "created": "2024-01-01T00:00:00Z"},
            {"created_by": "ENV a=b", "empty_layer": true},
            {"created_by": "RUN x", "comment": "buildkit", "empty_layer": null},
        ]);
        let layers = of_layers(&history, 2);
        let commands: Vec<_> = layers.iter().map(|layer| &layer.created_by).collect();
        assert_eq!(
            commands,
            [&Some("ADD rootfs".to_owned()), &Some("RUN x".to_owned())]
        );
        assert_eq!(layers[1].comment.as_deref(), Some("buildkit"));
    }

    #[test]
    fn a_history_that_does_not_fit_is_no_history() {
        for history in [
            json!(null),
            json!([]),
            json!([{"created_by": "a"}]),
            json!([{"created_by": "a"}, {"created_by": 7}]),
            json!({"created_by": "a"}),
        ] {
            assert_eq!(of_layers(&history, 2), vec![History::default(); 2]);
        }
    }
}
