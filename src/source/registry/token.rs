//! Tokens for a registry, from the server that it names.
//!
//! Sources: distribution's "Token Authentication Specification" and "OAuth2 Token Authentication".

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url};
use serde::Deserialize;

use super::challenge::TokenServer;
use super::credentials::{Login, Secret};
use super::failure::Failure;
use crate::https::bounded_body;

/// Bytes that the answer of a token server may have. Tokens go into a header, so that they are much
/// shorter.
const ANSWER_LIMIT: usize = 256 << 10;

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

/// A token that is good for `scope`.
pub(super) async fn fetch(
    client: &Client,
    server: &TokenServer,
    scope: &str,
    login: &Login,
    is_secure: bool,
) -> Result<String, Failure> {
    let nonsense = |problem: String| Failure::Nonsense { problem };
    let realm = server.realm.escape_debug();
    let mut url: Url = server
        .realm
        .parse()
        .map_err(|_| nonsense(format!("its token server {realm:?} is no address")))?;
    let is_anonymous = matches!(login.secret, Secret::Anonymous);
    if is_secure && url.scheme() != "https" && !is_anonymous {
        return Err(nonsense(format!(
            "its token server {realm:?} would get the login in plain text"
        )));
    }
    let mut fields = vec![("scope", scope)];
    fields.extend(
        server
            .service
            .as_deref()
            .map(|service| ("service", service)),
    );
    let request = match &login.secret {
        Secret::IdentityToken(token) => {
            fields.extend([
                ("grant_type", "refresh_token"),
                ("client_id", "sysgraft"),
                ("refresh_token", token),
            ]);
            client
                .post(url)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form(&fields))
        }
        Secret::Password { user, password } => {
            fields.push(("account", user));
            url.query_pairs_mut().extend_pairs(&fields);
            client.get(url).basic_auth(user, Some(password))
        }
        Secret::Anonymous => {
            url.query_pairs_mut().extend_pairs(&fields);
            client.get(url)
        }
    };
    let response = request.send().await.map_err(Failure::of)?;
    if !response.status().is_success() {
        return Err(Failure::of_answer(response).await);
    }
    let body = bounded_body(response, ANSWER_LIMIT)
        .await
        .map_err(Failure::of)?;
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|_| nonsense("its token server's answer is no JSON".to_owned()))?;
    let token = answer.token.or(answer.access_token);
    token.ok_or_else(|| nonsense("its token server's answer has no token".to_owned()))
}

/// `fields` as the body of a form.
fn form(fields: &[(&str, &str)]) -> String {
    let url = Url::parse_with_params("form:fields", fields).ok();
    let query = url.as_ref().and_then(Url::query);
    query.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_forms_are_escaped() {
        assert_eq!(form(&[("a", "b c&d"), ("e", "+")]), "a=b+c%26d&e=%2B");
    }
}
