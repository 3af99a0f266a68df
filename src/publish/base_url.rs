//! Where a feed is served.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;

/// The address of a folder on a web server; it ends in a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(String);

/// Why a text is no address of a folder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address of a folder on a web server: {reason}")]
pub struct InvalidBaseUrl {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl BaseUrl {
    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address of a file in the folder, whose name is that of an image.
    pub fn join(&self, file_name: &str) -> String {
        // Of the characters of those names, web servers may take only the plus for something else.
        format!("{}{}", self.0, file_name.replace('+', "%2B"))
    }
}

impl FromStr for BaseUrl {
    type Err = InvalidBaseUrl;

    fn from_str(text: &str) -> Result<BaseUrl, InvalidBaseUrl> {
        let invalid = |reason: String| InvalidBaseUrl {
            text: text.to_owned(),
            reason,
        };
        let mut url: Url = text.parse().map_err(|error| invalid(format!("{error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid(
                "it does not begin with http:// or https://".to_owned(),
            ));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid(
                "it has a login, which every node would show".to_owned(),
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("it has something behind the path".to_owned()));
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(BaseUrl(url.into()))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_ends_in_a_slash_and_has_no_secrets() {
        for (text, address) in [
            ("https://example.org", "https://example.org/"),
            (
                "http://example.org:8080/a b",
                "http://example.org:8080/a%20b/",
            ),
            ("https://example.org/a/", "https://example.org/a/"),
        ] {
            assert_eq!(text.parse::<BaseUrl>().unwrap().as_str(), address);
        }
        for text in [
            "",
            "example.org",
            "ftp://example.org/",
            "file:///srv",
            "https://alice:secret@example.org/",
            "https://example.org/?token=1",
        ] {
            assert!(text.parse::<BaseUrl>().is_err(), "{text}");
        }
        let base: BaseUrl = "https://example.org/x".parse().unwrap();
        assert_eq!(base.join("a_1+b.raw"), "https://example.org/x/a_1%2Bb.raw");
    }
}
