use std::collections::HashSet;

use super::*;
use crate::menu::{Does, Item, Menu, menu};
use crate::samples::{all, heard, now, offer, paired};
use crate::state::Offer;

const ENGLISH: Language = Language::English;

fn painted() -> Vec<(&'static str, View)> {
    all().into_iter().map(|(name, state)| (name, view(&state, now(), ENGLISH))).collect()
}

fn words_of(view: &View) -> Vec<String> {
    let mut words = vec![view.headline.clone()];
    words.extend(view.detail.clone());
    words.extend(view.banner.iter().map(|banner| banner.text.clone()));
    words.extend(
        view.actions.iter().flat_map(|action| [Some(action.label.clone()), action.confirm.clone()]).flatten(),
    );
    words.extend(view.steps.iter().map(|step| step.label.clone()));
    words.extend(view.assistant.iter().map(|assistant| assistant.status.clone()));
    words.extend(
        view.accounts.iter().flat_map(|account| account.reads.iter().chain([&account.status]).cloned()),
    );
    words.extend(view.activity.iter().map(|line| line.text.clone()));
    words.extend(view.copy_text.clone());
    words.extend(view.labels.values().cloned());
    words
}

/// The samples that the window's own tests are compared with.
#[test]
fn every_state_is_painted_as_reviewed() {
    for (name, view) in painted() {
        // The labels are the same in every view and have a snapshot of their own.
        let view = View { labels: BTreeMap::new(), ..view };
        insta::assert_json_snapshot!(name, view);
    }
    insta::assert_json_snapshot!("labels", labels(ENGLISH));
}

#[test]
fn every_screen_of_the_design_is_among_the_samples() {
    let screens: HashSet<_> = painted().iter().map(|(_, view)| view.screen).collect();
    assert_eq!(screens.len(), 12);
}

#[test]
fn no_word_of_the_trade_is_shown_to_a_person() {
    for (name, view) in painted() {
        for text in words_of(&view) {
            let lower = text.to_lowercase();
            for word in ["token", "oauth", "simply", "invalid_grant", "mqtt", "json", "jwt", "error:"] {
                // Host names in the operator's words are not ours.
                assert!(!lower.contains(word), "{name}: {text}");
            }
        }
    }
}

#[test]
fn headline_and_sentence_are_two_sentences_and_a_line_at_most() {
    for (name, view) in painted() {
        let sentences = view.detail.as_deref().unwrap_or_default().matches(". ").count() + 1;
        assert!(sentences <= 2, "{name}: {:?}", view.detail);
        assert!(
            !view.headline.is_empty() && view.headline.chars().count() <= 90,
            "{name}: {}",
            view.headline
        );
    }
}

#[test]
fn green_is_only_ever_connected_and_only_connected_is_green() {
    for (name, view) in painted() {
        assert_eq!(view.icon == Icon::Ok, view.screen == Screen::Connected, "{name}");
    }
}

/// Shows J8 for what is painted.
#[test]
fn offline_asleep_locked_and_no_network_never_look_signed_out() {
    let quiet = [
        "checking",
        "checking_paired",
        "agent_offline",
        "agent_offline_pending",
        "no_network",
        "broker_not_secure",
        "broker_wrong_name",
        "broker_expired",
        "broker_refused",
        "keyring_locked",
        "provider_unreachable",
    ];
    for (name, view) in painted().into_iter().filter(|(name, _)| quiet.contains(name)) {
        assert!(!matches!(view.screen, Screen::Reconnect | Screen::NotPaired), "{name}");
        let asks = |id: ActionId| matches!(id, ActionId::Reconnect | ActionId::Connect);
        assert!(!view.actions.iter().any(|action| asks(action.id)), "{name} asks for a sign-in");
        assert!(view.banner.is_none(), "{name} raises a banner");
    }
}

/// Shows J7 for what is painted.
#[test]
fn a_wait_in_the_browser_can_be_opened_again_copied_and_cancelled() {
    let waiting = painted().into_iter().find(|(name, _)| *name == "waiting").unwrap().1;
    let ids: Vec<_> = waiting.actions.iter().map(|action| action.id).collect();
    assert_eq!(ids, [ActionId::OpenAgain, ActionId::CopyLink, ActionId::Cancel]);
    assert_eq!(waiting.countdown_until, Some(now().as_second() + 4 * 60));
}

#[test]
fn an_invite_shows_who_asks_for_what_and_starts_nothing() {
    let state = State { offer: Some(offer()), ..State::default() };
    let view = view(&state, now(), ENGLISH);
    let card = view.invite.unwrap();
    assert_eq!(card.words, ["anchor", "violin", "meadow", "copper"]);
    assert_eq!(card.reads, ["Read your mail", "Read your calendar"]);
    assert_eq!(
        (card.broker_host.as_str(), card.login_host.as_str()),
        ("mqtt.contoso.example", "login.microsoftonline.com")
    );
    assert_eq!(view.countdown_until, None);
}

/// A page that looks like Microsoft's is how passwords are collected: where the sign-in would be is said in words.
#[test]
fn an_invite_to_sign_in_anywhere_but_at_microsoft_says_so_plainly() {
    assert_eq!(
        view(&State { offer: Some(offer()), ..State::default() }, now(), ENGLISH).invite.unwrap().warning,
        None
    );
    let elsewhere = painted().into_iter().find(|(name, _)| *name == "invited_elsewhere").unwrap().1;
    let card = elsewhere.invite.unwrap();
    let warning = card.warning.unwrap();
    assert!(warning.contains(&card.login_host) && warning.contains("isn't Microsoft's"), "{warning}");
    let standing_out =
        elsewhere.actions.iter().find(|action| action.kind == Kind::Primary).map(|action| action.id);
    assert_eq!(standing_out, Some(ActionId::DeclineInvite));
}

#[test]
fn the_request_to_an_administrator_names_each_permission() {
    for name in ["blocked", "blocked_by_agent"] {
        let text = painted().into_iter().find(|(known, _)| *known == name).unwrap().1.copy_text.unwrap();
        for part in
            ["User.Read", "Mail.Read", "Calendars.Read", "11111111-1111-4111-8111-111111111111", "Rocky"]
        {
            assert!(text.contains(part), "{name}: {text}");
        }
    }
}

#[test]
fn the_tray_says_the_state_first_and_the_one_action_second() {
    let mut painted_menus = String::new();
    for (name, view) in painted() {
        let menu = menu(&view, ENGLISH);
        assert_eq!(menu.0[0], Item::Line(view.headline.clone()), "{name}");
        match (view.actions.first(), &menu.0[1]) {
            (Some(action), Item::Action(first)) => assert_eq!(first.label, action.label, "{name}"),
            (None, other) => assert_eq!(*other, Item::Separator, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        let last = menu.0.last().unwrap();
        assert!(matches!(last, Item::Action(action) if action.does == Does::Quit), "{name}");
        painted_menus.push_str(&format!("{name}\n{}\n", lines(&menu)));
    }
    insta::assert_snapshot!("menus", painted_menus);
}

fn lines(menu: &Menu) -> String {
    let line = |item: &Item| match item {
        Item::Line(text) => format!("    {text}\n"),
        Item::Action(action) => format!("  > {} ({:?})\n", action.label, action.does),
        Item::Separator => "    ---\n".to_owned(),
    };
    menu.0.iter().map(line).collect()
}

#[test]
fn whatever_needs_a_question_first_is_asked_in_the_window() {
    let connected = painted().into_iter().find(|(name, _)| *name == "connected").unwrap().1;
    let Item::Action(first) = &menu(&connected, ENGLISH).0[1] else { panic!("no action") };
    assert_eq!((first.label.as_str(), first.does), ("Disconnect", Does::OpenWindow));
}

#[test]
fn a_short_break_of_the_connection_changes_no_colour() {
    let since = now() - jiff::SignedDuration::from_secs(3);
    let reason = LinkProblem::Unreachable;
    let connected = all().into_iter().find(|(name, _)| *name == "connected").unwrap().1;
    let state = State { link: LinkState::Down { since, reason }, ..connected };
    assert_eq!(screen(&state, now()), Screen::Connected);
    let wake = state.wake(now()).unwrap();
    assert_eq!(screen(&state, wake), Screen::AgentOffline);
    assert_eq!(screen(&paired(), now()), Screen::NotConnected);
}

/// Who asks to send or change says so in the first line, and what cannot be told is not called reading.
#[test]
fn an_invite_never_calls_sending_or_changing_reading() {
    let headline = |capabilities: &[&str]| {
        let capabilities = capabilities.iter().map(|name| (*name).to_owned()).collect();
        let offer = Some(Offer { capabilities, ..offer() });
        view(&State { offer, pairing: Pairing::Missing, ..State::default() }, now(), ENGLISH).headline
    };
    assert_eq!(headline(&["mail", "calendar", "workiq"]), "Rocky asks to read your Microsoft 365");
    for (capabilities, words) in [
        (&["mail", "mail-send"][..], &["send mail as you"][..]),
        (&["mail-write"], &["change"]),
        (&["imap"], &["change"]),
        (&["calendar-write", "mail-send"], &["change", "send mail as you"]),
    ] {
        let headline = headline(capabilities);
        assert!(words.iter().all(|word| headline.contains(word)), "{headline}");
    }
    assert!(!headline(&["mail", "in-years-to-come"]).contains("read"));
}

/// The label is about what this computer asked for and was granted, whatever the assistant says of it.
#[test]
fn read_only_is_said_only_if_nothing_that_was_granted_can_change_or_send() {
    let shown = |asked: &[&str], told: &[&str]| {
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut state = heard(Health::Connected);
        if let Pairing::Paired(assistant) = &mut state.pairing {
            assistant.capabilities = names(asked);
        }
        for account in state.heard.iter_mut().flatten() {
            account.capabilities = names(told);
        }
        view(&state, now(), ENGLISH)
    };
    let says = |asked: &[&str], told: &[&str]| shown(asked, told).headline.contains("read-only");
    assert!(says(&["mail", "calendar"], &["mail", "calendar"]));
    assert!(says(&["mail"], &[]));
    assert!(!says(&["mail", "mail-send"], &["mail"]), "the assistant keeps quiet about it");
    assert!(!says(&["mail", "mail-send"], &[]));
    assert!(!says(&["mail"], &["mail", "mail-write"]));
    assert!(!says(&["mail"], &["in-years-to-come"]));
    let card = &shown(&["mail", "mail-send"], &["mail"]).accounts[0];
    assert_eq!(card.reads, ["Read your mail", "Send mail as you"]);
}
