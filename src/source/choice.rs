//! Which layers of an image are meant: `--layers` and `--base`.

use std::fmt;
use std::str::FromStr;

use super::{Image, Layer};
use crate::digest::Digest;

/// Layers of an image, as a user names them: `last`, `all`, a number, a range, a digest, or several
/// of these with commas between them.
///
/// Layers are numbered from 1, the lowest one; -1 is the top one, -2 the one below it. Ranges hold
/// both of their ends: `2..4` are the layers 2, 3 and 4, `-3..` the upper three, `..2` the lower two.
/// `sha256:` and the first digits name a layer by its blob or by its uncompressed archive (diff id).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerChoice {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Both ends belong to it.
    Range(Index, Index),
    /// The first digits of a digest, without `sha256:`.
    Digest(String),
}

/// A number of a layer, counted from 1 at the bottom, or from -1 at the top downward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Index(i32);

const LOWEST: Index = Index(1);
const TOP: Index = Index(-1);

/// A layer and its number, counted from 1 at the bottom.
#[derive(Clone, Copy, Debug)]
pub struct NumberedLayer<'a> {
    /// Number.
    pub number: usize,
    /// The layer.
    pub layer: &'a Layer,
}

/// Why a text names no layers.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{part:?} names no layers: {problem} (there are last, all, 3, 2..4, -3.., sha256:…)")]
pub struct InvalidLayerChoice {
    /// The part that is wrong.
    pub part: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// Why an image does not have the layers that are wanted.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// It has fewer layers.
    #[error("{image} has {}, so there is no layer {part}", layers(*.count))]
    NoSuchLayer {
        /// The image.
        image: String,
        /// What is not there.
        part: String,
        /// How many layers there are.
        count: usize,
    },
    /// A range ends below its beginning.
    #[error(
        "{image} has {}, so the first layer of {part}, which is {first}, lies above its last, which is {last}",
        layers(*.count)
    )]
    UpsideDown {
        /// The image.
        image: String,
        /// The range.
        part: String,
        /// Its first layer, counted from 1.
        first: usize,
        /// Its last layer.
        last: usize,
        /// How many layers there are.
        count: usize,
    },
    /// None of its layers has the digest.
    #[error("none of the {} of {image} has a digest that begins with sha256:{digits}; sysgraft layers shows them", layers(*.count))]
    NoSuchDigest {
        /// The image.
        image: String,
        /// The first digits.
        digits: String,
        /// How many layers there are.
        count: usize,
    },
    /// Several layers have digests that begin like this.
    #[error("the layers {} of {image} all have digests that begin with sha256:{digits}; write more of its digits", list(.numbers))]
    AmbiguousDigest {
        /// The image.
        image: String,
        /// The first digits.
        digits: String,
        /// The layers.
        numbers: Vec<usize>,
    },
    /// An image does not say what its layers are, so that they cannot be compared.
    #[error(
        "{image} names no diff ids of its layers, so it cannot be compared with {other}; choose the layers with --layers"
    )]
    NoDiffIds {
        /// The image.
        image: String,
        /// The other one.
        other: String,
    },
    /// The image has not all layers of its base.
    #[error(
        "{image} is not built on {base}: they part at layer {number}, which is {} in the image and {base_layer} in the base; name the base that it was built on, or choose layers with --layers",
        or_missing(.image_layer)
    )]
    NotBuiltOn {
        /// The image.
        image: String,
        /// What should be its base.
        base: String,
        /// The lowest layer that differs, counted from 1.
        number: usize,
        /// Its diff id in the image, if that has so many layers.
        image_layer: Option<Digest>,
        /// Its diff id in the base.
        base_layer: Digest,
    },
    /// The image is its base.
    #[error("{image} has no layers above those of {base}: nothing was added to it")]
    NothingAboveBase {
        /// The image.
        image: String,
        /// Its base.
        base: String,
    },
}

impl LayerChoice {
    /// The top layer alone.
    pub fn last() -> LayerChoice {
        LayerChoice {
            text: "last".to_owned(),
            parts: vec![Part::Range(TOP, TOP)],
        }
    }

    /// The layers of `image` that are meant, lowest first, each once.
    ///
    /// # Errors
    /// See [`ChoiceError`].
    pub fn choose<'a>(&self, image: &'a Image) -> Result<Vec<NumberedLayer<'a>>, ChoiceError> {
        let mut chosen = vec![false; image.layers.len()];
        for part in &self.parts {
            match part {
                Part::Range(first, last) => {
                    let (first, last) = (position(*first, image)?, position(*last, image)?);
                    let range = chosen.get_mut(first..=last);
                    range
                        .filter(|range| !range.is_empty())
                        .ok_or_else(|| ChoiceError::UpsideDown {
                            image: image.location.clone(),
                            part: part.to_string(),
                            first: first + 1,
                            last: last + 1,
                            count: image.layers.len(),
                        })?
                        .fill(true);
                }
                Part::Digest(digits) => {
                    for position in with_digest(image, digits)? {
                        if let Some(chosen) = chosen.get_mut(position) {
                            *chosen = true;
                        }
                    }
                }
            }
        }
        let layers = numbered(image).zip(chosen);
        Ok(layers
            .filter_map(|(layer, chosen)| chosen.then_some(layer))
            .collect())
    }
}

/// The layers of `image` above those of `base`, on which it was built, lowest first.
///
/// # Errors
/// See [`ChoiceError`].
pub fn above_base<'a>(
    image: &'a Image,
    base: &Image,
) -> Result<Vec<NumberedLayer<'a>>, ChoiceError> {
    let no_diff_ids = |image: &Image, other: &Image| ChoiceError::NoDiffIds {
        image: image.location.clone(),
        other: other.location.clone(),
    };
    for (number, layer) in (1..).zip(&base.layers) {
        let base_layer = layer.diff_id.ok_or_else(|| no_diff_ids(base, image))?;
        let image_layer = match image.layers.get(number - 1) {
            Some(layer) => Some(layer.diff_id.ok_or_else(|| no_diff_ids(image, base))?),
            None => None,
        };
        if image_layer != Some(base_layer) {
            return Err(ChoiceError::NotBuiltOn {
                image: image.location.clone(),
                base: base.location.clone(),
                number,
                image_layer,
                base_layer,
            });
        }
    }
    let above: Vec<NumberedLayer<'_>> = numbered(image).skip(base.layers.len()).collect();
    if above.is_empty() {
        return Err(ChoiceError::NothingAboveBase {
            image: image.location.clone(),
            base: base.location.clone(),
        });
    }
    Ok(above)
}

fn numbered(image: &Image) -> impl Iterator<Item = NumberedLayer<'_>> {
    let layers = (1..).zip(&image.layers);
    layers.map(|(number, layer)| NumberedLayer { number, layer })
}

/// Where a layer stands in the image, counted from 0.
fn position(index: Index, image: &Image) -> Result<usize, ChoiceError> {
    let count = image.layers.len();
    let distance = usize::try_from(index.0.unsigned_abs()).unwrap_or(usize::MAX);
    let position = if index.0 > 0 {
        distance.checked_sub(1)
    } else {
        count.checked_sub(distance)
    };
    position
        .filter(|&position| position < count)
        .ok_or_else(|| no_such_layer(image, index.to_string()))
}

fn no_such_layer(image: &Image, part: String) -> ChoiceError {
    ChoiceError::NoSuchLayer {
        image: image.location.clone(),
        part,
        count: image.layers.len(),
    }
}

/// The layers whose digest begins with `digits`; several only if they are the same one.
fn with_digest(image: &Image, digits: &str) -> Result<Vec<usize>, ChoiceError> {
    let begins = |digest: &Option<Digest>| digest.is_some_and(|it| it.hex().starts_with(digits));
    let found: Vec<(usize, &Layer)> = image
        .layers
        .iter()
        .enumerate()
        .filter(|(_, layer)| begins(&layer.blob) || begins(&layer.diff_id))
        .collect();
    let Some((_, first)) = found.first() else {
        return Err(ChoiceError::NoSuchDigest {
            image: image.location.clone(),
            digits: digits.to_owned(),
            count: image.layers.len(),
        });
    };
    let is_same = |layer: &Layer| (layer.blob, layer.diff_id) == (first.blob, first.diff_id);
    if !found.iter().all(|(_, layer)| is_same(layer)) {
        return Err(ChoiceError::AmbiguousDigest {
            image: image.location.clone(),
            digits: digits.to_owned(),
            numbers: found.iter().map(|(position, _)| position + 1).collect(),
        });
    }
    Ok(found.into_iter().map(|(position, _)| position).collect())
}

impl FromStr for LayerChoice {
    type Err = InvalidLayerChoice;

    fn from_str(text: &str) -> Result<LayerChoice, InvalidLayerChoice> {
        let parts = text.split(',').map(str::parse);
        Ok(LayerChoice {
            text: text.to_owned(),
            parts: parts.collect::<Result<_, _>>()?,
        })
    }
}

impl FromStr for Part {
    type Err = InvalidLayerChoice;

    fn from_str(text: &str) -> Result<Part, InvalidLayerChoice> {
        let refuse = |problem| InvalidLayerChoice {
            part: text.to_owned(),
            problem,
        };
        let index = |text: &str| match text.parse() {
            Ok(0) => Err(refuse("layers are counted from 1")),
            Ok(number) => Ok(Index(number)),
            Err(_) => Err(refuse("it is neither a number nor a range of numbers")),
        };
        match text {
            "" => return Err(refuse("it is empty")),
            "last" => return Ok(Part::Range(TOP, TOP)),
            "all" => return Ok(Part::Range(LOWEST, TOP)),
            _ => {}
        }
        if let Some(digits) = text.strip_prefix("sha256:") {
            let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            if !(1..=64).contains(&digits.len()) || !digits.bytes().all(is_digit) {
                return Err(refuse(
                    "a digest has 64 digits out of 0-9 and a-f, or fewer that are unique",
                ));
            }
            return Ok(Part::Digest(digits.to_owned()));
        }
        let Some((first, last)) = text.split_once("..") else {
            let only = index(text)?;
            return Ok(Part::Range(only, only));
        };
        let end = |text: &str, otherwise| match text {
            "" => Ok(otherwise),
            text => index(text),
        };
        let (first, last) = (end(first, LOWEST)?, end(last, TOP)?);
        if (first.0 > 0) == (last.0 > 0) && first.0 > last.0 {
            return Err(refuse("its first layer lies above its last one"));
        }
        Ok(Part::Range(first, last))
    }
}

impl fmt::Display for LayerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Range(first, last) if first == last => first.fmt(f),
            Part::Range(first, last) => write!(f, "{first}..{last}"),
            Part::Digest(digits) => write!(f, "sha256:{digits}"),
        }
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Numbers of layers as `--layers` takes them: `1,3..5`.
pub fn ranges(numbers: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let runs: Vec<String> = runs
        .into_iter()
        .map(|(first, last)| match last - first {
            0 => first.to_string(),
            _ => format!("{first}..{last}"),
        })
        .collect();
    runs.join(",")
}

fn layers(count: usize) -> String {
    match count {
        1 => "1 layer".to_owned(),
        count => format!("{count} layers"),
    }
}

fn list(numbers: &[usize]) -> String {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    numbers.join(", ")
}

fn or_missing(digest: &Option<Digest>) -> String {
    digest.map_or_else(|| "missing".to_owned(), |digest| digest.to_string())
}

#[cfg(test)]
mod tests;
