//! Was granted what was asked for? Pure.
//!
//! Entra puts every permission that this client id has ever been given by the person, or by an administrator for everybody,
//! into a token, asked for or not. So an answer may hold more than the person was told, and such a token is not taken.

use super::{Capability, PROVIDERS, Resource, all};
use crate::cloud::Cloud;
use crate::refusal::Reason;

/// Permissions that hold others, so that those give nothing more.
/// <https://learn.microsoft.com/graph/permissions-reference>
const INCLUDES: [(&str, &[&str]); 6] = [
    ("Mail.Read", &["Mail.ReadBasic"]),
    ("Mail.Read.Shared", &["Mail.Read", "Mail.ReadBasic", "Mail.ReadBasic.Shared"]),
    ("Mail.ReadWrite", &["Mail.Read", "Mail.ReadBasic"]),
    ("Calendars.Read", &["Calendars.ReadBasic"]),
    ("Calendars.Read.Shared", &["Calendars.Read", "Calendars.ReadBasic"]),
    ("Calendars.ReadWrite", &["Calendars.Read", "Calendars.ReadBasic"]),
];
/// Who it is, and a refresh token: nothing of a mailbox.
const IDENTITY: [&str; 4] = ["openid", "profile", "email", "offline_access"];
/// The other names that Microsoft has for a resource: application ids, and an address of Exchange's.
const ALIASES: [(Resource, &str); 4] = [
    (Resource::Graph, "00000003-0000-0000-c000-000000000000"),
    (Resource::Outlook, "00000002-0000-0ff1-ce00-000000000000"),
    (Resource::Outlook, "https://outlook.office365.com"),
    (Resource::WorkIq, "fdcc1f02-fc51-4226-8753-f668596af7f7"),
];

/// What was granted is not what was asked for. Nothing of such an answer may be kept or used but a rotated refresh token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("granted were {} permissions too few and {} too many", missing.len(), beyond.len())]
pub struct Misgrant {
    /// Asked for and not granted, as they were asked.
    pub missing: Vec<String>,
    /// Granted and not asked for, as they were answered: text of the provider's.
    pub beyond: Vec<String>,
}

impl Misgrant {
    /// Too much is the graver, and the person cannot mend it.
    pub fn reason(&self) -> Reason {
        if self.beyond.is_empty() { Reason::Consent } else { Reason::GrantedMore }
    }
}

/// Compares the scopes of a token answer with what these capabilities ask of `resource`.
///
/// All that is needed there must be in it. Beyond that it may hold identity scopes, what is part of a permission that was
/// asked for, and what these capabilities ask of other resources; nothing else, even if it only reads.
pub fn judge_grant(
    resource: Resource,
    cloud: &Cloud,
    capabilities: &[Capability],
    granted: &str,
) -> Result<(), Misgrant> {
    let asked: Vec<(Resource, &str)> = PROVIDERS
        .iter()
        .map(|provider| provider.always)
        .chain(all().filter(|known| capabilities.contains(known)).flat_map(|capability| {
            capability.0.scopes.iter().map(move |name| (capability.resource(), *name))
        }))
        .collect();
    let answered: Vec<_> =
        granted.split_whitespace().map(|scope| (scope, read(scope, resource, cloud))).collect();

    let is = |a: (Resource, &str), b: (Resource, &str)| a.0 == b.0 && a.1.eq_ignore_ascii_case(b.1);
    let part_of = |one: (Resource, &str), whole: (Resource, &str)| {
        let (_, parts) = INCLUDES.iter().find(|(name, _)| *name == whole.1).unwrap_or(&("", &[]));
        is(one, whole) || parts.iter().any(|part| is(one, (whole.0, part)))
    };
    let missing = asked
        .iter()
        .filter(|want| want.0 == resource)
        .filter(|want| !answered.iter().any(|(_, got)| got.is_some_and(|got| is(got, **want))))
        .map(|want| want.1.to_owned())
        .collect::<Vec<_>>();
    let beyond = answered
        .iter()
        .filter(|(scope, _)| !IDENTITY.iter().any(|known| known.eq_ignore_ascii_case(scope)))
        .filter(|(_, got)| !got.is_some_and(|got| asked.iter().any(|want| part_of(got, *want))))
        .map(|(scope, _)| (*scope).to_owned())
        .collect::<Vec<_>>();
    if missing.is_empty() && beyond.is_empty() { Ok(()) } else { Err(Misgrant { missing, beyond }) }
}

/// Whose permission it is, and its name. Without an address it belongs to the resource that was asked.
fn read<'a>(scope: &'a str, asked: Resource, cloud: &Cloud) -> Option<(Resource, &'a str)> {
    let Some((address, name)) = scope.rsplit_once('/') else { return Some((asked, scope)) };
    let address = address.trim_end_matches('/');
    let known = [Resource::Graph, Resource::Outlook, Resource::WorkIq].into_iter().find(|resource| {
        let own = resource.audience(cloud).is_ok_and(|own| own.eq_ignore_ascii_case(address));
        // What Microsoft calls its Graph whatever the address that it is reached at.
        let graph = *resource == Resource::Graph && address.eq_ignore_ascii_case(GLOBAL_GRAPH);
        let alias = ALIASES.iter().any(|(of, alias)| of == resource && alias.eq_ignore_ascii_case(address));
        own || graph || alias
    });
    known.map(|resource| (resource, name))
}

const GLOBAL_GRAPH: &str = "https://graph.microsoft.com";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::capability::{default_capabilities, parse, scopes_for};

    fn judge(capabilities: &[Capability], granted: &str) -> Result<(), (Vec<String>, Vec<String>)> {
        judge_grant(Resource::Graph, &Cloud::Global, capabilities, granted)
            .map_err(|misgrant| (misgrant.missing, misgrant.beyond))
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn what_was_asked_is_right_in_every_spelling_of_microsofts() {
        let read = default_capabilities();
        for granted in [
            "User.Read Mail.Read Calendars.Read",
            "openid profile email offline_access user.read MAIL.READ Calendars.Read",
            "https://graph.microsoft.com/User.Read https://graph.microsoft.com/Mail.Read https://graph.microsoft.com//Calendars.Read",
            "00000003-0000-0000-c000-000000000000/User.Read Mail.Read Calendars.Read Calendars.ReadBasic",
        ] {
            assert_eq!(judge(&read, granted), Ok(()), "{granted}");
        }
    }

    /// Shows of L6 the decision on granted scopes other than those asked.
    #[test]
    fn more_than_was_asked_is_refused_whether_it_writes_or_reads() {
        let read = default_capabilities();
        let asked = "openid User.Read Mail.Read Calendars.Read";
        for more in [
            "Mail.Send",
            "Mail.ReadWrite",
            "https://graph.microsoft.com/Mail.ReadWrite",
            "Mail.Read.Shared",
            "Contacts.Read",
            "Directory.AccessAsUser.All",
            "https://outlook.office.com/IMAP.AccessAsUser.All",
            "https://graph.microsoft.com.evil.example/Mail.Read",
            "https://evil.example/openid",
            "api://evil.example/offline_access",
            "/Mail.Read",
            "IMAP.AccessAsUser.All",
        ] {
            assert_eq!(judge(&read, &format!("{asked} {more}")), Err((vec![], names(&[more]))), "{more}");
        }
    }

    #[test]
    fn less_than_was_asked_is_refused_also_where_more_was_given_in_its_place() {
        let read = default_capabilities();
        assert_eq!(judge(&read, "User.Read Mail.Read"), Err((names(&["Calendars.Read"]), vec![])));
        assert_eq!(
            judge(&read, "User.Read Mail.ReadWrite Calendars.Read"),
            Err((names(&["Mail.Read"]), names(&["Mail.ReadWrite"])))
        );
        // Another resource's permission of that name is not it.
        let elsewhere = judge(&read, "User.Read https://outlook.office.com/Mail.Read Calendars.Read");
        assert_eq!(elsewhere, Err((names(&["Mail.Read"]), names(&["https://outlook.office.com/Mail.Read"]))));
        let none = judge_grant(Resource::Graph, &Cloud::Global, &read, "openid offline_access").unwrap_err();
        assert_eq!((none.missing.len(), none.reason()), (3, Reason::Consent));
    }

    #[test]
    fn who_may_write_may_be_told_to_read_and_other_resources_asked_for_may_be_named() {
        let writer = parse(["mail-write", "imap", "workiq"]).unwrap();
        let granted = "User.Read Mail.ReadWrite Mail.Read https://outlook.office.com/IMAP.AccessAsUser.All";
        assert_eq!(judge(&writer, granted), Ok(()));
        for (resource, granted) in [
            (Resource::Outlook, "https://outlook.office.com/IMAP.AccessAsUser.All"),
            (Resource::Outlook, "https://outlook.office365.com/IMAP.AccessAsUser.All openid"),
            (Resource::WorkIq, "api://workiq.svc.cloud.microsoft/WorkIQAgent.Ask"),
            (Resource::WorkIq, "fdcc1f02-fc51-4226-8753-f668596af7f7/WorkIQAgent.Ask"),
        ] {
            assert_eq!(judge_grant(resource, &Cloud::Global, &writer, granted), Ok(()), "{granted}");
        }
        let send = "https://outlook.office.com/IMAP.AccessAsUser.All https://outlook.office.com/SMTP.Send";
        let refused = judge_grant(Resource::Outlook, &Cloud::Global, &writer, send).unwrap_err();
        assert_eq!(refused.beyond, ["https://outlook.office.com/SMTP.Send"]);
        assert_eq!(refused.reason(), Reason::GrantedMore);
    }

    proptest! {
        /// What we ask for is what we take, in every cloud; and nothing that writes can be slipped into a reader's grant.
        #[test]
        fn exactly_what_is_asked_is_taken_and_no_write_with_it(
            ids in proptest::sample::subsequence(all().map(|one| one.id()).collect::<Vec<_>>(), 0..9),
            cloud in prop::sample::select(vec![Cloud::Global, Cloud::UsGovernment, Cloud::UsGovernmentDod, Cloud::China]),
        ) {
            let asked = parse(&ids).unwrap();
            for resource in crate::capability::resources(&asked) {
                let Ok(scopes) = scopes_for(resource, &cloud, &asked) else { continue };
                let granted = scopes.join(" ");
                prop_assert_eq!(judge_grant(resource, &cloud, &asked, &granted), Ok(()));
                for write in ["Mail.Send", "Mail.ReadWrite", "Calendars.ReadWrite"] {
                    let more = format!("{granted} https://graph.microsoft.com/{write}");
                    let wanted = scopes_for(Resource::Graph, &cloud, &asked).unwrap();
                    let taken = judge_grant(resource, &cloud, &asked, &more).is_ok();
                    prop_assert_eq!(taken, wanted.iter().any(|one| one == write), "{} for {:?}", write, ids);
                }
            }
        }
    }
}
