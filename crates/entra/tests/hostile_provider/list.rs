//! The list of what a provider must not get away with (tests/vectors/oidc): each of its cases is tried here, or in a test that
//! is named, and where we do otherwise than it says, a list tells why.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cases::cases;
use crate::support::{Provider, TENANT};

const LIST: &str = include_str!("../../../../tests/vectors/oidc/negative-cases.tsv");

const HERE: &str = "crates/entra/tests/hostile_provider/main.rs";
const LOOPBACK: &str = "crates/entra/tests/loopback.rs";
const MSAL_CACHE: &str = "crates/entra/tests/msal_cache.rs";
const REFUSALS: &str = "crates/companion/tests/refusals.rs";
const SIGN_IN: &str = "crates/entra/tests/sign_in.rs";
const TOKENS: &str = "crates/entra/tests/tokens.rs";

const NOT_THE_PROVIDER: &str = "a_provider_that_is_not_what_it_should_be_is_refused_before_a_browser_opens";
const NEW_KEY: &str = "a_new_signing_key_is_fetched_once_and_made_up_ones_do_not_flood_the_provider";
const ADDRESS: &str = "an_address_in_a_right_token_proves_a_person_only_where_the_provider_vouches_for_it";
const MIXED_UP: &str = "what_the_provider_refuses_is_said_in_words_that_help";
const ISS: &str = "the_iss_of_a_callback_is_a_permitted_tenants_and_not_missing_where_promised";
const LENIENT: &str = "the_token_type_may_be_written_in_any_case_and_the_lifetime_be_missing";
const STATES: &str = "a_missing_a_forged_and_a_used_state_change_nothing";

/// What is not a token and its keys, and the tests that have it.
const IN_TESTS: &[(&str, &[(&str, &str)])] = &[
    (
        "rp-userinfo-bad-sub-claim",
        &[
            (TOKENS, "graph_says_whose_token_it_is"),
            ("crates/entra/src/person.rs", "graphs_answer_about_another_account_proves_nothing"),
        ],
    ),
    ("rp-discovery-issuer-not-matching-config", &[(SIGN_IN, NOT_THE_PROVIDER)]),
    ("rp-key-rotation-op-sign-key", &[(HERE, NEW_KEY)]),
    ("rp-key-rotation-op-sign-key-native", &[(HERE, NEW_KEY)]),
    ("refresh-ok", &[(MSAL_CACHE, "a_refresh_rotates_in_place_and_an_unchanged_cache_says_so")]),
    ("refresh-sub", &[(MSAL_CACHE, "refreshed_tokens_of_somebody_else_change_nothing")]),
    ("authz-iss-wrong", &[("crates/entra/src/metadata.rs", ISS), (REFUSALS, MIXED_UP)]),
    ("authz-iss-missing", &[("crates/entra/src/metadata.rs", ISS)]),
    ("authz-state-missing", &[(REFUSALS, STATES)]),
    ("token-type-case", &[(TOKENS, LENIENT)]),
    ("expires_in-missing", &[(TOKENS, LENIENT)]),
    (
        "email-mismatch",
        &[(HERE, ADDRESS), ("crates/entra/src/person.rs", "nothing_fuzzy_is_the_same_address")],
    ),
    ("email-unverified", &[(HERE, ADDRESS)]),
    (
        "callback-twice",
        &[
            (REFUSALS, STATES),
            (LOOPBACK, "duplicates_of_the_callback_see_the_remembered_page_and_are_never_handed_over"),
        ],
    ),
    ("callback-late", &[(REFUSALS, "a_sign_in_that_nobody_finishes_ends_after_five_minutes")]),
    ("callback-host", &[(LOOPBACK, "another_name_for_this_computer_is_refused")]),
    ("callback-flood", &[(LOOPBACK, "ten_thousand_guesses_at_the_state_change_nothing")]),
    (
        "callback-preconnect",
        &[
            (LOOPBACK, "more_idle_connections_than_there_is_room_for_do_not_keep_the_browser_out"),
            (LOOPBACK, "a_connection_that_drips_or_says_nothing_is_closed_within_its_time"),
            (LOOPBACK, "a_request_line_or_form_of_a_mebibyte_is_refused_and_the_callback_still_comes"),
        ],
    ),
    (
        "error-reflect",
        &[
            (LOOPBACK, "a_refusal_is_handed_over_decoded_and_never_reflected"),
            (TOKENS, "no_answer_or_error_prints_a_token_a_code_or_the_providers_text"),
        ],
    ),
    ("pkce-downgrade", &[(SIGN_IN, NOT_THE_PROVIDER)]),
    ("token-redirect", &[(TOKENS, "a_redirect_of_the_token_endpoint_is_not_followed")]),
    ("http-endpoint", &[(SIGN_IN, NOT_THE_PROVIDER)]),
];

/// Where those tests expect otherwise than the list.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "rp-userinfo-bad-sub-claim",
        "no userinfo is asked for; Graph's /me is, and an answer about another account proves nothing",
    ),
    (
        "email-mismatch",
        "an address that differs in upper and lower case alone is the same one; of one with a trailing dot, a homoglyph or a plus-tag \
         Graph is asked, whose answer decides",
    ),
    (
        "email-unverified",
        "Graph is asked instead, whose answer decides; it is refused where Graph confirms nothing",
    ),
    (
        "callback-twice",
        "the second is shown the page of the first, because a browser repeats itself; one token call",
    ),
    ("callback-host", "refused with 421, which is the status for another host's request, instead of 400"),
];

/// Shows of M2 that no case of the list was left out.
#[tokio::test]
async fn each_case_of_the_list_is_tried_in_one_place() {
    let provider = Provider::start().await;
    let here = cases(&provider.authority(TENANT), &provider);
    let listed: BTreeMap<&str, &str> = LIST
        .lines()
        .skip(1)
        .map(|line| (line.split('\t').next().unwrap(), line.rsplit('\t').next().unwrap()))
        .collect();
    let mut tries = 0;
    for (id, expect) in &listed {
        let in_tests = IN_TESTS.iter().find(|(of, _)| of == id);
        assert!(here.contains_key(id) != in_tests.is_some(), "{id} is tried in no place, or in two");
        if let Some(cases) = here.get(id) {
            tries += cases.len();
            // The first is the list's own; where it leaves a choice, either will do.
            let taken = cases[0].expect == "Right";
            assert!(taken == expect.starts_with("accept") || expect.contains(" or "), "{id}: {expect}");
        }
        for (file, test) in in_tests.map_or(&[][..], |(_, tests)| tests) {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
            let source = std::fs::read_to_string(&file).unwrap();
            assert!(
                source.contains(&format!("fn {test}() {{")),
                "{id}: no test {test} in {}",
                file.display()
            );
        }
    }
    for (id, _) in IN_TESTS
        .iter()
        .map(|(id, tests)| (*id, tests.len()))
        .chain(DIFFERENCES.iter().map(|(id, why)| (*id, why.len())))
    {
        assert!(listed.contains_key(id), "{id} is not in the list");
    }
    println!(
        "{} cases: {} tried here with {tries} tokens, {} in tests that are named; {} come to something else, as listed",
        listed.len(),
        listed.len() - IN_TESTS.len(),
        IN_TESTS.len(),
        DIFFERENCES.len()
    );
    assert_eq!(listed.len(), 51);
}
