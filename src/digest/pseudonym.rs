//! A name for a principal that says nothing to whoever has no key, and is the same wherever the key is.

use std::fmt;
use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::found::Found;
use crate::terms::Kind;

/// Bytes of the code that are shown: 128 bits, so that no two principals ever share a pseudonym by chance.
const SHOWN_BYTES: usize = 16;

/// The key of pseudonyms, ready for use.
#[derive(Clone)]
pub struct Pseudonyms(Hmac<Sha256>);

impl Pseudonyms {
    pub fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes a key of any length"))
    }

    /// The pseudonym of the person who signed in; `None` where it was none, or nobody says who.
    pub fn of(&self, found: &Found<'_>) -> Option<String> {
        let fields = &found.fields;
        if found.kind != Kind::SignIn {
            return None;
        }
        let said = |text: &Option<std::borrow::Cow<'_, str>>| {
            let text = text.as_deref().unwrap_or_default().trim().to_lowercase();
            (!text.is_empty()).then_some(text)
        };
        // Zeros stand where Entra does not know the user.
        let object_id = said(&fields.user_id).filter(|id| !id.bytes().all(|byte| b"0-".contains(&byte)));
        let principal = object_id.or_else(|| said(&fields.user_principal_name))?;
        let tenant = found.tenant_id().unwrap_or_default().trim().to_lowercase();
        let mut mac = self.0.clone();
        mac.update(tenant.as_bytes());
        // No id of a tenant holds it, so no two pairs are written alike.
        mac.update(b"\n");
        mac.update(principal.as_bytes());
        let code = mac.finalize().into_bytes();
        let mut pseudonym = String::from("p-");
        for byte in &code[..SHOWN_BYTES] {
            write!(pseudonym, "{byte:02x}").expect("a String takes every write");
        }
        Some(pseudonym)
    }
}

impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonyms(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::fields::Fields;
    use crate::digest::frame::EnvelopeIds;
    use crate::digest::{Middle, Options};

    fn pseudonym(key: &[u8], record: &str) -> Option<String> {
        let middle =
            Middle::new(std::sync::Arc::new(crate::catalogue::Catalogue::embedded()), Options::default());
        let fields = Fields::from_json(record).unwrap();
        Pseudonyms::new(key).of(&middle.reader().record(
            fields,
            &[record.as_bytes()],
            None,
            &EnvelopeIds::default(),
        ))
    }

    fn sign_in(members: &str) -> String {
        format!(r#"{{"category":"SignInLogs","resultType":"50126",{members}}}"#)
    }

    #[test]
    fn it_is_the_code_that_privacy_md_says() {
        // printf 'T\nid' in lower case | openssl dgst -sha256 -hmac KEY, its first 32 digits.
        let record =
            sign_in(r#""tenantId":"T","properties":{"userId":"ID","userPrincipalName":"A@x.example"}"#);
        let key = b"0123456789abcdef0123456789abcdef";
        assert_eq!(pseudonym(key, &record).as_deref(), Some("p-2d3b8ff2a2862cf64fa2e97e6ebc19a1"));
    }

    #[test]
    fn a_person_has_one_in_a_tenant_and_under_a_key() {
        let of = |members: &str| pseudonym(b"key", &sign_in(members));
        let one = of(r#""tenantId":"t","properties":{"userPrincipalName":"Pat@X.example"}"#).unwrap();
        for same in [
            r#""tenantId":"T","properties":{"userPrincipalName":" pat@x.example"}"#,
            r#""tenantId":"t","properties":{"userPrincipalName":"pat@x.example","userId":""}"#,
            r#""tenantId":"t","properties":{"userPrincipalName":"pat@x.example","userId":"00000000-0000-0000-0000-000000000000"}"#,
            r#""AADTenantId":"t","TenantId":"workspace","UserPrincipalName":"pat@x.example""#,
        ] {
            assert_eq!(of(same).as_ref(), Some(&one), "{same}");
        }
        for other in [
            r#""tenantId":"u","properties":{"userPrincipalName":"pat@x.example"}"#,
            r#""tenantId":"t","properties":{"userPrincipalName":"pit@x.example"}"#,
            r#""tenantId":"t","properties":{"userPrincipalName":"pat@x.example","userId":"id"}"#,
        ] {
            assert!(of(other).is_some_and(|pseudonym| pseudonym != one), "{other}");
        }
        let record = sign_in(r#""tenantId":"t","properties":{"userPrincipalName":"pat@x.example"}"#);
        assert_ne!(pseudonym(b"another", &record), Some(one));
    }

    #[test]
    fn apps_and_other_records_have_none() {
        assert_eq!(
            pseudonym(b"key", &sign_in(r#""properties":{"servicePrincipalId":"s","appId":"a"}"#)),
            None
        );
        assert_eq!(pseudonym(b"key", r#"{"category":"AuditLogs","userId":"u","x":"AADSTS50126"}"#), None);
    }
}
