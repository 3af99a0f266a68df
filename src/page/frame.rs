//! The document around what a page shows.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::digest::Digest;

const STYLE: &str = include_str!("style.css");

/// A part of a page that can be jumped to.
pub struct Section {
    /// What links call it.
    pub id: &'static str,
    /// What people call it.
    pub heading: &'static str,
    /// What it shows, without its heading.
    pub content: Markup,
}

/// What a page consists of.
pub struct Page {
    /// What the window is called.
    pub title: String,
    /// What stands above everything: one `h1`, and what matters most.
    pub header: Markup,
    /// All else, in this order.
    pub sections: Vec<Section>,
    /// Style rules of this page alone; nothing from an image may be in them.
    pub rules: String,
    /// From which images it was made.
    pub made_from: String,
}

impl Page {
    /// The whole document. It may use the style that is in it, and nothing else.
    pub fn render(&self) -> String {
        let style = format!("{STYLE}{}", self.rules);
        let digest = BASE64_STANDARD.encode(Digest::of(style.as_bytes()).as_bytes());
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
        );
        let markup = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(policy);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="referrer" content="no-referrer";
                    meta name="generator" content={ "sysgraft " (env!("CARGO_PKG_VERSION")) };
                    title { (self.title) }
                    style { (PreEscaped(&style)) }
                }
                body {
                    a.skip href="#content" { "Skip to the content" }
                    header { (self.header) }
                    nav aria-label="On this page" {
                        ul {
                            @for section in &self.sections {
                                li { a href={ "#" (section.id) } { (section.heading) } }
                            }
                        }
                    }
                    main id="content" {
                        @for section in &self.sections {
                            section id=(section.id) aria-labelledby={ (section.id) "-heading" } {
                                h2 id={ (section.id) "-heading" } { (section.heading) }
                                (section.content)
                            }
                        }
                    }
                    footer {
                        p {
                            "Made by sysgraft " (env!("CARGO_PKG_VERSION")) " from " (self.made_from)
                            ". This page loads nothing and runs nothing."
                        }
                    }
                }
            }
        };
        markup.into_string()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// The values of the custom properties of a rule.
    fn colours(rule: &str) -> HashMap<&str, [f64; 3]> {
        let declarations = rule.split(['{', ';', '}']);
        let pairs = declarations.filter_map(|one| one.trim().strip_prefix("--")?.split_once(": #"));
        let channel = |digits: &str| f64::from(u8::from_str_radix(digits, 16).unwrap()) / 255.0;
        pairs
            .map(|(name, hex)| {
                let channels = [0, 2, 4].map(|place| channel(&hex[place..place + 2]));
                (name, channels)
            })
            .collect()
    }

    /// The contrast of WCAG 2.2.
    fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
        let luminance = |colour: [f64; 3]| {
            let [r, g, b] = colour.map(|channel| match channel {
                ..=0.04045 => channel / 12.92,
                _ => ((channel + 0.055) / 1.055).powf(2.4),
            });
            0.2126 * r + 0.7152 * g + 0.0722 * b
        };
        let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
        a.max(b) / a.min(b)
    }

    #[test]
    fn all_text_has_enough_contrast_in_light_and_dark() {
        let rules: Vec<&str> = STYLE.split(":root {").collect();
        let grounds = [
            "paper", "panel", "faint", "plain", "g0", "g1", "g2", "g3", "g4", "g5", "g6", "added",
            "removed", "changed", "same", "p-data", "p-hash", "p-other",
        ];
        for rule in [rules[1], rules[2]] {
            let colours = colours(rule.split('}').next().unwrap());
            for ground in grounds {
                let ground_colour = colours[ground];
                assert!(
                    contrast(colours["ink"], ground_colour) >= 7.0,
                    "ink on {ground}"
                );
                // Sizes on the map are painted with 78 % of the ink.
                let mixed = std::array::from_fn(|channel| {
                    0.78 * colours["ink"][channel] + 0.22 * ground_colour[channel]
                });
                assert!(contrast(mixed, ground_colour) >= 4.5, "size on {ground}");
            }
            for ground in ["paper", "panel"] {
                for text in ["quiet", "link", "good", "bad", "doubtful"] {
                    let contrast = contrast(colours[text], colours[ground]);
                    assert!(contrast >= 4.5, "{text} on {ground}: {contrast}");
                }
            }
        }
    }
}
