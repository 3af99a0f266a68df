//! Choices and what they mean.

use proptest::prelude::*;

use super::*;
use crate::source::{History, LayerBytes, OpenLayer, SourceError};

struct Closed;

impl OpenLayer for Closed {
    fn open(&self) -> Result<LayerBytes, SourceError> {
        Err(SourceError::StandardInputGone)
    }
}

/// An image whose layers have the digests of these texts.
fn image(contents: &[&str]) -> Image {
    let layer = |content: &&str| Layer {
        blob: Some(Digest::of(format!("gzip {content}").as_bytes())),
        diff_id: Some(Digest::of(content.as_bytes())),
        size: None,
        history: History::default(),
        content: Box::new(Closed),
    };
    Image {
        location: format!("image of {}", contents.len()),
        digest: None,
        architecture: None,
        layers: contents.iter().map(layer).collect(),
    }
}

fn numbers(layers: &[NumberedLayer<'_>]) -> Vec<usize> {
    layers.iter().map(|layer| layer.number).collect()
}

fn chosen(text: &str, image: &Image) -> Result<Vec<usize>, String> {
    let choice: LayerChoice = text.parse().map_err(|error| format!("{error}"))?;
    let layers = choice.choose(image).map_err(|error| error.to_string())?;
    Ok(numbers(&layers))
}

#[test]
fn layers_are_counted_from_both_ends_and_ranges_hold_theirs() {
    let image = image(&["a", "b", "c", "d", "e"]);
    for (text, expected) in [
        ("last", &[5][..]),
        ("all", &[1, 2, 3, 4, 5]),
        ("1", &[1]),
        ("-1", &[5]),
        ("2..4", &[2, 3, 4]),
        ("-3..", &[3, 4, 5]),
        ("-3..-2", &[3, 4]),
        ("2..-2", &[2, 3, 4]),
        ("-5..2", &[1, 2]),
        ("..2", &[1, 2]),
        ("4..", &[4, 5]),
        ("3..3", &[3]),
        ("5,1,2..3,2", &[1, 2, 3, 5]),
        ("last,1", &[1, 5]),
    ] {
        assert_eq!(chosen(text, &image).unwrap(), expected, "{text}");
    }
}

#[test]
fn layers_that_are_not_there_are_refused_with_their_number() {
    let image = image(&["a", "b", "c"]);
    for (text, needle) in [
        ("4", "3 layers, so there is no layer 4"),
        ("-4..", "no layer -4"),
        ("2..4", "no layer 4"),
        (
            "3..-2",
            "the first layer of 3..-2, which is 3, lies above its last, which is 2",
        ),
        ("-1..1", "which is 3, lies above"),
        ("sha256:", "64 digits"),
        ("sha256:ABC", "0-9 and a-f"),
        ("0", "counted from 1"),
        ("3..2", "above"),
        ("-1..-2", "above"),
        ("", "empty"),
        ("1,", "empty"),
        ("two", "number"),
        ("1...2", "number"),
        ("first", "number"),
    ] {
        let error = chosen(text, &image).unwrap_err();
        assert!(error.contains(needle), "{text}: {error}");
    }
}

#[test]
fn digests_name_layers_by_blob_or_diff_id_even_by_their_first_digits() {
    let image = image(&["a", "b", "same", "same"]);
    let b = &image.layers[1];
    for digest in [b.blob.unwrap(), b.diff_id.unwrap()] {
        assert_eq!(chosen(&digest.to_string(), &image).unwrap(), [2]);
        assert_eq!(chosen(&digest.to_string()[..20], &image).unwrap(), [2]);
    }
    let same = image.layers[2].blob.unwrap().to_string();
    assert_eq!(chosen(&format!("{same},1"), &image).unwrap(), [1, 3, 4]);
    let nobody = format!("sha256:{}", "0".repeat(64));
    assert!(chosen(&nobody, &image).unwrap_err().contains("4 layers"));
    let many: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let error = chosen("sha256:1", &self::image(&many)).unwrap_err();
    assert!(error.contains("write more"), "{error}");
}

#[test]
fn a_base_is_all_of_the_lower_layers() {
    let whole = image(&["a", "b", "c", "d"]);
    let above = above_base(&whole, &image(&["a", "b"])).unwrap();
    assert_eq!(numbers(&above), [3, 4]);
    let error = above_base(&whole, &image(&["a", "x", "c"])).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("part at layer 2"), "{text}");
    assert!(text.contains(&Digest::of(b"b").to_string()), "{text}");
    assert!(text.contains(&Digest::of(b"x").to_string()), "{text}");
    let larger = above_base(&image(&["a"]), &image(&["a", "b"])).unwrap_err();
    assert!(
        larger.to_string().contains("missing in the image"),
        "{larger}"
    );
    let equal = above_base(&whole, &whole);
    assert!(matches!(equal, Err(ChoiceError::NothingAboveBase { .. })));
    let mut unnamed = image(&["a"]);
    unnamed.layers[0].diff_id = None;
    for pair in [(&whole, &unnamed), (&unnamed, &whole)] {
        let error = above_base(pair.0, pair.1);
        assert!(matches!(error, Err(ChoiceError::NoDiffIds { .. })));
    }
}

proptest! {
    /// What `ranges` writes means the same layers again.
    #[test]
    fn choices_are_sorted_and_can_be_written_again(
        count in 1_usize..30,
        parts in proptest::collection::vec((-30_i32..30, -30_i32..30, 0..4), 1..5),
    ) {
        let contents: Vec<String> = (0..count).map(|number| number.to_string()).collect();
        let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
        let image = image(&contents);
        let parts: Vec<String> = parts.into_iter().map(|(a, b, form)| match form {
            0 => format!("{a}..{b}"),
            1 => format!("{a}.."),
            2 => format!("..{b}"),
            _ => a.to_string(),
        }).collect();
        if let Ok(layers) = chosen(&parts.join(","), &image) {
            prop_assert!(!layers.is_empty());
            prop_assert!(layers.is_sorted_by(|a, b| a < b));
            prop_assert!(layers.iter().all(|&number| (1..=count).contains(&number)));
            prop_assert_eq!(chosen(&ranges(&layers), &image).unwrap(), layers);
        }
    }

    #[test]
    fn no_text_is_too_strange(text in "[-.,0-9a-fls:h]{0,20}") {
        let _ = text.parse::<LayerChoice>();
    }
}
