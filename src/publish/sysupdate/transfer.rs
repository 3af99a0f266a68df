//! What a node needs to follow a feed: a transfer file, and a feature with which it is switched on.
//!
//! Syntax: sysupdate.d(5) and sysupdate.features(5) of systemd 257 and later.

use crate::extension::{ExtensionKind, ExtensionName};
use crate::publish::base_url::BaseUrl;

/// How many versions a node keeps: the one in use, and the one before or after it.
const INSTANCES: usize = 2;

/// The extension that a node is to follow, and where.
#[derive(Clone, Copy, Debug)]
pub struct Transfer<'a> {
    /// The extension.
    pub name: &'a ExtensionName,
    /// What it extends.
    pub kind: ExtensionKind,
    /// Where the feed is served.
    pub base_url: &'a BaseUrl,
    /// Whether `SHA256SUMS` is signed, so that a node checks that.
    pub signed: bool,
    /// Whether nodes get it only after they have switched it on.
    pub optional: bool,
}

impl Transfer<'_> {
    /// The name of the transfer file.
    pub fn file_name(&self) -> String {
        format!("{}.{}.transfer", self.name, self.kind)
    }

    /// The name of the feature file.
    pub fn feature_file_name(&self) -> String {
        format!("{}.{}.feature", self.name, self.kind)
    }

    /// Where a node keeps the versions; systemd does not look there for extensions.
    pub fn store(&self) -> &'static str {
        match self.kind {
            ExtensionKind::Sysext => "/var/lib/extensions.store",
            ExtensionKind::Confext => "/var/lib/confexts.store",
        }
    }

    /// The link to the version in use. It has the name without a version, because that is the name
    /// that systemd takes the image to have.
    pub fn link(&self) -> String {
        match self.kind {
            ExtensionKind::Sysext => format!("/var/lib/extensions/{}.raw", self.name),
            ExtensionKind::Confext => format!("/var/lib/confexts/{}.raw", self.name),
        }
    }

    /// The text of the transfer file.
    pub fn render(&self) -> String {
        let (name, kind) = (self.name, self.kind);
        // A percent sign starts a specifier; %a is the node's architecture.
        let url = self.base_url.as_str().replace('%', "%%");
        let verify = if self.signed { "yes" } else { "no" };
        let features = match self.optional {
            true => format!("Features={name}.{kind}\n"),
            false => String::new(),
        };
        let (store, link) = (self.store(), self.link());
        format!(
            "[Transfer]\n{features}Verify={verify}\n\n\
             [Source]\nType=url-file\nPath={url}\nMatchPattern={name}_@v_%a.{kind}.raw\n\n\
             [Target]\nType=regular-file\nPath={store}\nMatchPattern={name}_@v_%a.{kind}.raw\n\
             CurrentSymlink={link}\nMode=0644\nInstancesMax={INSTANCES}\n"
        )
    }

    /// The text of the feature file: off until somebody switches it on.
    pub fn render_feature(&self) -> String {
        let what = match self.kind {
            ExtensionKind::Sysext => "system extension",
            ExtensionKind::Confext => "configuration extension",
        };
        format!(
            "[Feature]\nDescription=The {what} {}\nEnabled=no\n",
            self.name
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_of_the_address_are_no_specifiers() {
        let base_url = "https://example.org/my%20feed".parse().unwrap();
        let transfer = Transfer {
            name: &"hello".parse().unwrap(),
            kind: ExtensionKind::Confext,
            base_url: &base_url,
            signed: true,
            optional: true,
        };
        let text = transfer.render();
        for line in [
            "Features=hello.confext\n",
            "Verify=yes\n",
            "Path=https://example.org/my%%20feed/\n",
            "MatchPattern=hello_@v_%a.confext.raw\n",
            "CurrentSymlink=/var/lib/confexts/hello.raw\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(transfer.file_name(), "hello.confext.transfer");
    }
}
