//! MQTT topic names and filters (MQTT 5.0 §4.7), for topics that came from a broker and may be anything.

/// Longest topic MQTT can carry, in bytes.
const MAX_LENGTH: usize = u16::MAX as usize;

pub(crate) fn is_topic(topic: &str) -> bool {
    !topic.is_empty() && topic.len() <= MAX_LENGTH && !topic.contains(['+', '#', '\0'])
}

pub(crate) fn is_filter(filter: &str) -> bool {
    let levels: Vec<&str> = filter.split('/').collect();
    !filter.is_empty()
        && filter.len() <= MAX_LENGTH
        && !filter.contains('\0')
        && levels.iter().enumerate().all(|(i, level)| match *level {
            "#" => i + 1 == levels.len(),
            "+" => true,
            other => !other.contains(['+', '#']),
        })
}

/// Whether a broker may deliver `topic` for a subscription to `filter`.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    if !is_topic(topic) || (topic.starts_with('$') && filter.starts_with(['+', '#'])) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_matches_what_the_standard_says() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
            ("a/+/c", "a/b/c", true),
            ("a/+", "a/b/c", false),
            ("a/+", "a/", true),
            ("a/#", "a/b/c", true),
            ("a/#", "a", true),
            ("#", "a/b", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("#", "", false),
            ("#", "a/+", false),
            ("é/+", "é/ü", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn wildcards_stand_alone_and_the_last_is_last() {
        for good in ["#", "+", "a/+/b", "a/#", "/"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["", "a#", "a/#/b", "a+/b", "a\0"] {
            assert!(!is_filter(bad), "{bad}");
        }
    }
}
