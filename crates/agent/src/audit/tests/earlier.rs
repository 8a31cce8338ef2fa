//! Lines that an earlier version wrote.

use super::*;

/// Lines of tokens did not always say for what they were.
#[test]
fn lines_of_an_earlier_version_are_verified_and_shown_and_the_chain_goes_on_behind_them() {
    let home = Home::with_lines(Limits::default(), 1);
    let begun = fs::read_to_string(home.current()).unwrap();
    let earlier = format!(
        "{{\"seq\":2,\"at\":\"2026-11-21T09:30:00Z\",\"prev\":\"{}\",\"event\":\"token_served\",\"account\":\"a.b\",\
         \"resource\":\"graph\",\"caller\":{{\"via\":\"command\"}}}}\n",
        LineHash::of(begun.as_bytes())
    );
    let tip = Tip { seq: 2, hash: LineHash::of(earlier.as_bytes()) };
    rewrite(&home.current(), &format!("{begun}{earlier}"));
    rewrite(&home.file(store::HEAD), &serde_json::to_string(&Head::at(tip, None)).unwrap());
    let audit = home.audit(Limits::default());
    audit.record(served(3));
    drop(audit);
    let report = home.verify();
    assert!(report.intact && report.lines == 3, "{report:?}");
    let lines: Vec<serde_json::Value> =
        last_lines(&home.path(), 2).unwrap().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&lines[0]["resource"], &lines[0]["capabilities"]),
        (&"graph".into(), &serde_json::Value::Null)
    );
    assert_eq!(lines[1]["capabilities"], serde_json::json!(["mail", "calendar"]));
}
