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
