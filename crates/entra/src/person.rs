//! Is this the person the sign-in was for? Decided by ids where they are known, and by what the provider vouches for where
//! not; what was typed into the sign-in page (`login_hint`) proves nothing.

use crate::account::AccountId;
use crate::graph::Me;
use crate::id_token::Claims;

/// Who is expected. Nobody in particular, if both are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// For the first sign-in.
    pub email: Option<String>,
    /// Known from an earlier sign-in. It alone decides then: addresses change, and pass to other people.
    pub account: Option<AccountId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Right,
    /// The ID token does not settle it; ask Graph `/me` and check again.
    AskGraph,
    Wrong {
        /// For the page that says so. Text of the provider's: escape it.
        signed_in_as: String,
    },
}

/// Checks the person behind verified `claims`, with Graph's answer if it has been asked.
pub fn check(expected: &Expected, claims: &Claims, me: Option<&Me>) -> Verdict {
    let right = |is_right| {
        if is_right { Verdict::Right } else { Verdict::Wrong { signed_in_as: claims.display_name() } }
    };
    if let Some(account) = expected.account {
        return right(account == claims.account);
    }
    let Some(email) = expected.email.as_deref() else { return Verdict::Right };
    if vouched_for(claims).any(|address| same_address(email, address)) {
        return Verdict::Right;
    }
    match me {
        None => Verdict::AskGraph,
        Some(me) => {
            let mut proven = me.proven_addresses(&claims.account);
            right(me.is(&claims.account) && proven.any(|address| same_address(email, address)))
        }
    }
}

/// The addresses that the token itself proves: an e-mail of a domain that the tenant owns, and an organisation's own user
/// principal name (Entra admits only domains that the tenant has proved to own).
fn vouched_for(claims: &Claims) -> impl Iterator<Item = &str> {
    let email = claims.email.as_ref().filter(|email| email.verified).map(|email| email.address.as_str());
    let organisations_own = !claims.account.is_personal() && !claims.guest;
    email.into_iter().chain(claims.username.as_deref().filter(|_| organisations_own))
}

/// The same but for the case of ASCII letters and surrounding space. Nothing cleverer: other scripts' look-alikes, `+tags`
/// and trailing dots can be other mailboxes.
fn same_address(a: &str, b: &str) -> bool {
    !a.trim().is_empty() && a.trim().eq_ignore_ascii_case(b.trim())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::{Uuid, uuid};

    use super::*;
    use crate::account::PERSONAL_TENANT;
    use crate::id_token::Email;

    const CONTOSO: Uuid = uuid!("aaaaaaaa-0000-4000-8000-00000000c070");
    const ANA: Uuid = uuid!("0a11ce00-0000-4000-8000-0000000000a4");

    fn claims(username: &str) -> Claims {
        Claims {
            account: AccountId { tid: CONTOSO, oid: ANA },
            subject: "s".to_owned(),
            name: Some("Ana".to_owned()),
            username: Some(username.to_owned()),
            email: None,
            guest: false,
            issued_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn with_email(address: &str, verified: bool) -> Claims {
        Claims {
            email: Some(Email { address: address.to_owned(), verified }),
            ..claims("ana.upn@contoso.example")
        }
    }

    fn expecting(email: &str) -> Expected {
        Expected { email: Some(email.to_owned()), account: None }
    }

    fn me(id: &str, mail: Option<&str>, upn: &str) -> Me {
        Me {
            id: id.to_owned(),
            mail: mail.map(str::to_owned),
            user_principal_name: Some(upn.to_owned()),
            display_name: None,
            organisation_named: false,
        }
    }

    fn wrong(signed_in_as: &str) -> Verdict {
        Verdict::Wrong { signed_in_as: signed_in_as.to_owned() }
    }

    #[test]
    fn an_organisations_own_user_name_is_enough() {
        let claims = claims("Ana@Contoso.example");
        assert_eq!(check(&expecting(" ana@contoso.EXAMPLE\n"), &claims, None), Verdict::Right);
        assert_eq!(check(&Expected::default(), &claims, None), Verdict::Right);
    }

    #[test]
    fn nothing_fuzzy_is_the_same_address() {
        for near in [
            "ana@contoso.example.",
            "ana+work@contoso.example",
            "an\u{430}@contoso.example",
            "ana@contoso.example@evil.example",
            "ana@c\u{f6}ntoso.example",
            "ANA\u{212a}@contoso.example",
            "",
            "  ",
        ] {
            let claims = claims(near);
            assert_eq!(check(&expecting("ana@contoso.example"), &claims, None), Verdict::AskGraph, "{near}");
            let me = me(&ANA.to_string(), Some(near), near);
            let verdict = check(&expecting("ana@contoso.example"), &claims, Some(&me));
            assert!(matches!(verdict, Verdict::Wrong { .. }), "{near}");
            let empty = check(&expecting(""), &claims, Some(&me));
            assert!(matches!(empty, Verdict::Wrong { .. }), "{near}");
        }
    }

    #[test]
    fn an_email_claim_counts_only_if_the_tenant_owns_its_domain() {
        let expected = expecting("ana@contoso.example");
        assert_eq!(check(&expected, &with_email("ana@contoso.example", true), None), Verdict::Right);
        assert_eq!(check(&expected, &with_email("ana@contoso.example", false), None), Verdict::AskGraph);
    }

    #[test]
    fn the_user_name_of_a_guest_or_a_personal_account_is_not_enough() {
        let expected = expecting("ana@contoso.example");
        let guest = Claims { guest: true, ..claims("ana@contoso.example") };
        assert_eq!(check(&expected, &guest, None), Verdict::AskGraph);
        let account = AccountId { tid: PERSONAL_TENANT, oid: ANA };
        let personal = Claims { account, ..claims("ana@contoso.example") };
        assert_eq!(check(&expected, &personal, None), Verdict::AskGraph);
    }

    /// Shows M4 for the decision.
    #[test]
    fn a_user_name_unlike_the_mailbox_is_right_when_graph_confirms_the_mailbox() {
        let expected = expecting("ana@contoso.example");
        let claims = claims("ana.upn@contoso.example");
        assert_eq!(check(&expected, &claims, None), Verdict::AskGraph);
        let hers = me(&ANA.to_string(), Some("Ana@contoso.example"), "ana.upn@contoso.example");
        assert_eq!(check(&expected, &claims, Some(&hers)), Verdict::Right);
        let by_upn = me(&ANA.to_string(), None, "ana@contoso.example");
        assert_eq!(check(&expected, &claims, Some(&by_upn)), Verdict::Right);
    }

    /// Anybody can have an organisation at Microsoft, and write any address into a mailbox's `mail` there.
    #[test]
    fn where_any_organisation_may_sign_in_mail_proves_an_address_of_the_organisations_own_domain_only() {
        let expected = expecting("ana@contoso.example");
        let claims = claims("mallory@evil.example");
        for upn in [
            "mallory@evil.example",
            "ana_contoso.example#EXT#@evil.example",
            "mallory@contoso.example.evil.example",
            "mallory@evil.example@",
            "contoso.example",
            "",
        ] {
            let forged = me(&ANA.to_string(), Some("ana@contoso.example"), upn);
            assert_eq!(check(&expected, &claims, Some(&forged)), wrong("mallory@evil.example"), "by {upn:?}");
            // Whoever names the organisation takes its word.
            let named = Me { organisation_named: true, ..forged };
            assert_eq!(check(&expected, &claims, Some(&named)), Verdict::Right, "by {upn:?}");
        }
        let without =
            Me { user_principal_name: None, ..me(&ANA.to_string(), Some("ana@contoso.example"), "") };
        assert_eq!(check(&expected, &claims, Some(&without)), wrong("mallory@evil.example"));
    }

    #[test]
    fn a_personal_account_has_the_addresses_that_microsoft_confirmed() {
        let oid = uuid!("00000000-0000-0000-66f3-3332eca7ea81");
        let claims =
            Claims { account: AccountId { tid: PERSONAL_TENANT, oid }, ..claims("carol@outlook.example") };
        let hers = me("66f33332eca7ea81", Some("carol@contoso.example"), "carol@outlook.example");
        assert_eq!(check(&expecting("carol@contoso.example"), &claims, Some(&hers)), Verdict::Right);
    }

    /// Shows M3 for the decision.
    #[test]
    fn somebody_else_is_wrong_and_named() {
        let claims = claims("bob@contoso.example");
        let bob = me(&ANA.to_string(), Some("bob@contoso.example"), "bob@contoso.example");
        let verdict = check(&expecting("ana@contoso.example"), &claims, Some(&bob));
        assert_eq!(verdict, wrong("bob@contoso.example"));
    }

    #[test]
    fn graphs_answer_about_another_account_proves_nothing() {
        let claims = claims("ana.upn@contoso.example");
        let other = me(&CONTOSO.to_string(), Some("ana@contoso.example"), "ana@contoso.example");
        let verdict = check(&expecting("ana@contoso.example"), &claims, Some(&other));
        assert_eq!(verdict, wrong("ana.upn@contoso.example"));
    }

    #[test]
    fn a_pinned_account_decides_alone() {
        let pinned = AccountId { tid: CONTOSO, oid: ANA };
        let expected = Expected { email: Some("old-name@contoso.example".to_owned()), account: Some(pinned) };
        assert_eq!(check(&expected, &claims("new-name@contoso.example"), None), Verdict::Right);
        let elsewhere = AccountId { tid: ANA, oid: ANA };
        let expected = Expected { email: Some("ana@contoso.example".to_owned()), account: Some(elsewhere) };
        assert_eq!(
            check(&expected, &with_email("ana@contoso.example", true), None),
            wrong("ana.upn@contoso.example")
        );
    }
}
