//! What stands in the folder for those who find it later.

use super::KeySet;
use crate::signature::Certificate;

/// Its file name: one that is not likely to be another README's.
pub(super) const NAME: &str = "README.keys.md";

/// The text.
pub(super) fn render(set: &KeySet) -> String {
    let mut rows = String::new();
    for key in set.firmware_keys() {
        rows += &row(key.variable().name(), key.pair().certificate());
    }
    if let Some(pair) = set.extension_key() {
        rows += &row("extension", pair.certificate());
    }
    let signer = if set.extension_key().is_some() {
        "extension"
    } else {
        "db"
    };
    format!(
        "\
# Secure Boot keys

Made by `sysgraft genkey`. Whoever has the `.key` files and `tpm2-pcr-private.pem` can sign what your
machines start: keep them secret, and keep a copy. Everything else is public.

| key | subject | valid until | SHA-256 of the certificate |
|---|---|---|---|
{rows}
| file | what it is |
|---|---|
| `PK` | platform key: decides who may change KEK |
| `KEK` | key exchange key: decides who may change db |
| `db` | signs boot loaders, kernels and extensions |
{extension}| `….key` | private key (PKCS#8, PEM) |
| `….pem`, `….der` | its certificate |
| `….esl` | the variable's content: certificates, unsigned |
| `….auth` | the same, signed for enrolment: PK and KEK by PK, db by KEK |
| `tpm2-pcr-private.pem`, `tpm2-pcr-public.pem` | sign and verify the TPM policies of measured boot |
| `guid.txt` | owner of the certificates in firmware; give it to `--owner-guid` when you renew keys |

Enrol `db.auth`, `KEK.auth` and last `PK.auth` while the firmware is in setup mode; PK switches Secure Boot on.

Sign an extension with `{signer}.key`:

    sysgraft sysext --private-key {signer}.key --certificate {signer}.pem NAME IMAGE

{trust}",
        extension = match set.extension_key() {
            Some(_) => "| `extension` | signs extensions and nothing else |\n",
            None => "",
        },
        trust = match set.extension_key() {
            Some(_) =>
                "Hosts trust it once `extension.pem` lies there as `/etc/verity.d/extension.crt`.\n",
            None =>
                "Hosts trust it by db, or once `db.pem` lies there as `/etc/verity.d/db.crt`.\n",
        },
    )
}

fn row(name: &str, certificate: &Certificate) -> String {
    format!(
        "| `{name}` | {} | {} | {} |\n",
        certificate.subject().replace('|', "\\|"),
        certificate.not_after(),
        certificate.fingerprint().hex()
    )
}
