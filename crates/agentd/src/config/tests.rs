use valetkey_tests::strangers::feed;

use super::*;

#[test]
fn an_unknown_key_is_refused_by_its_name() {
    let error = format!("{:#}", Config::parse("client_id = \"x\"\nclent_secret = \"y\"", None).unwrap_err());
    assert!(error.contains("clent_secret"), "{error}");
    let error = format!("{:#}", Config::parse("[own_broker]\nprot = 1", None).unwrap_err());
    assert!(error.contains("prot"), "{error}");
}

/// Every key stands in the template, which is a valid file as it is and with every comment mark taken away.
#[test]
fn the_template_documents_every_key() {
    Config::parse(TEMPLATE, None).expect("the template as written");
    let all: String = TEMPLATE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            // A comment for people has a space after its mark; a switched-off key has none.
            Some(key) if !key.starts_with(' ') => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let table: toml::Table = toml::from_str(&all).expect("the template with every key switched on");
    for (section, keys) in [
        (
            "",
            "name client_id tenant cloud login_url graph_url allow invite_expires link_base broker own_broker",
        ),
        (
            "broker",
            "url username password_file ca_file client_certificate_file client_key_file device_url \
             device_username device_password_file device_credential_command",
        ),
        ("own_broker", "address port device_url certificate_file key_file"),
        ("vault", "sealed key_file"),
    ] {
        let table = if section.is_empty() { Some(&table) } else { table[section].as_table() };
        for key in keys.split_whitespace() {
            assert!(
                table.is_some_and(|table| table.contains_key(key)),
                "{section} {key} is not in the template"
            );
        }
    }
}

#[test]
fn a_cloud_of_ones_own_needs_both_addresses_and_the_others_take_none() {
    assert!(Config::parse("cloud = \"custom\"", None).is_err());
    assert!(Config::parse("login_url = \"https://login.example\"", None).is_err());
    assert!(Config::parse("cloud = \"mars\"", None).is_err());
    assert!(Config::parse("tenant = \"no such\"", None).is_err());
}

/// Shows of M12 that it says what is wrong, in which line, and what to write.
#[test]
fn a_file_that_cannot_be_read_is_said_in_plain_words_with_the_line() {
    for (text, words) in [
        (
            "\nclent_id = \"x\"",
            "line 2: there is no key `clent_id`. Look for a slip in its name; there are `name`, `client_id`",
        ),
        ("[vault]\nkey = \"x\"", "line 2: there is no key `key`."),
        ("tenant = 7", "line 1: tenant has this number and needs a text: write it in \"quotation marks\""),
        ("name = organizations", "line 1: this cannot be read ("),
        ("name = \"x", "line 1: this cannot be read ("),
        ("allow = \"mail\"", "line 1: allow has a text and needs a list: write it in [brackets]"),
        ("[own_broker]\nport = \"1883\"", "line 2: port has a text and needs a number from 0 to 65535"),
        ("[own_broker]\nport = 70000", "line 2: port has this number and needs a number from 0 to 65535"),
        ("[vault]\nsealed = \"yes\"", "line 2: sealed has a text and needs true or false"),
        ("name = 2026-11-21", "line 1: name has something else and needs a text"),
        ("name = \"x\"\nname = \"y\"", "line 2: name is there already"),
        ("[broker]\nusername = \"x\"", "line 1: `url` is missing in this section"),
        ("[broker]\nurl = \"no address\"", "line 2: url cannot be used ("),
        ("what = is this", "line 1: this cannot be read ("),
        ("[own_broker]\naddress = \"here\"", "line 2: address cannot be used ("),
        ("hello", "line 1: this cannot be read ("),
    ] {
        let problem = Config::parse(text, None).unwrap_err();
        assert_eq!(problem.code, "configuration");
        assert!(problem.message.starts_with(words), "{text}: {problem}");
        assert!(!problem.message.contains('\n'), "{text}: {problem}");
    }
    let secret = Config::parse("[broker]\nurl = mqtts://me:secret@broker.example", None).unwrap_err();
    assert!(secret.message.starts_with("line 2: ") && !secret.message.contains("me:secret"), "{secret}");
}

#[test]
fn a_loopback_address_is_known_in_every_spelling() {
    for (address, loopback) in [
        ("mqtt://127.0.0.1:18883", true),
        ("mqtt://127.1.2.3", true),
        ("mqtts://localhost:8883", true),
        ("mqtts://LOCALHOST.", true),
        ("wss://agent.localhost/mqtt", true),
        ("mqtt://[::1]:1883", true),
        ("mqtt://[::ffff:127.0.0.1]", true),
        ("mqtt://0.0.0.0:1883", true),
        ("mqtts://localhost.example.com", false),
        ("mqtts://192.168.1.2", false),
        ("mqtts://[2001:db8::1]", false),
    ] {
        assert_eq!(is_loopback(&address.parse().unwrap()), loopback, "{address}");
    }
}

#[test]
fn durations_are_read_in_four_units_and_nothing_else() {
    assert_eq!(parse_duration("90s").unwrap(), Duration::from_secs(90));
    assert_eq!(parse_duration(" 2h ").unwrap(), Duration::from_secs(7_200));
    assert_eq!(parse_duration("7d").unwrap(), Duration::from_secs(604_800));
    for wrong in ["", "10", "m", "-1m", "1.5h", "0s", "10 m", "99999999999999999999d", "9999999999999999d"] {
        assert!(parse_duration(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_cannot_work_is_found_before_anything_starts() {
    for (text, names) in [
        ("name = \"two\\nlines\"", "name"),
        ("client_id = \"\"", "client_id"),
        ("client_id = \"not an id\"", "client_id"),
        ("allow = [\"maill\"]", "maill"),
        ("allow = []", "allow"),
        ("invite_expires = \"8d\"", "invite_expires"),
        ("link_base = \"http://connect.example/\"", "link_base"),
        ("[broker]\nurl = \"https://broker.example\"", "url"),
        ("[broker]\nurl = \"mqtts://me:secret@broker.example\"", "url"),
        ("[broker]\nurl = \"mqtt://b\"\ndevice_url = \"ftp://b\"", "device_url"),
        ("[broker]\nurl = \"mqtt://b\"\nclient_key_file = \"k\"", "client_certificate_file"),
        ("[broker]\nurl = \"mqtt://b\"\ndevice_credential_command = []", "device_credential_command"),
        (
            "[broker]\nurl = \"mqtt://b\"\ndevice_credential_command = [\"x\"]\ndevice_username = \"y\"",
            "device_username",
        ),
        ("[own_broker]\nport = 0", "port"),
        ("[own_broker]\naddress = \"0.0.0.0\"", "device_url"),
        ("[own_broker]\ncertificate_file = \"c\"", "key_file"),
    ] {
        let problem = Config::parse(text, None).unwrap_err();
        assert_eq!(problem.code, "configuration");
        assert!(problem.message.contains(names), "{text}: {problem}");
        assert!(!problem.message.contains("me:secret"), "{problem}");
    }
}

#[test]
fn a_broker_on_the_command_line_is_everybodys_and_keeps_the_login() {
    let text = "[broker]\nurl = \"mqtt://old\"\nusername = \"u\"\ndevice_url = \"mqtt://old-too\"";
    let broker = Config::parse(text, Some("mqtts://new".parse().unwrap())).unwrap().broker.unwrap();
    assert_eq!(
        (broker.url.as_str(), broker.username.as_deref(), broker.device_url),
        ("mqtts://new", Some("u"), None)
    );
    assert!(Config::parse("", Some("ftp://new".parse().unwrap())).is_err());
}

/// Whoever may write the file may write anything into it; it is read or refused, in time.
#[test]
fn configurations_that_were_changed() {
    let on: String = TEMPLATE
        .lines()
        .map(|line| {
            format!("{}\n", line.strip_prefix('#').filter(|key| !key.starts_with(' ')).unwrap_or(line))
        })
        .collect();
    let small = "name = \"Rocky\"\nclient_id = \"x\"\ninvite_expires = \"2h\"\n[broker]\nurl = \"mqtts://b.example\"\n\
                 device_credential_command = [\"x\"]\n[own_broker]\nport = 1883\n";
    feed("agent.toml", &[TEMPLATE.as_bytes(), on.as_bytes(), small.as_bytes()], |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return false };
        Config::parse(text, None).is_ok_and(|config| config.label().is_ok() && config.authority().is_ok())
    });
    feed("durations", &[b"90s", b"10m", b"7d"], |bytes| {
        str::from_utf8(bytes).is_ok_and(|text| parse_duration(text).is_ok_and(|length| !length.is_zero()))
    });
}
