//! Times on the command line.

use std::time::Duration;

/// Seconds, such as `30` or `0.5`, or a time with units, such as `250ms` or `1m 30s`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let advice = "write seconds, such as 30 or 0.5, or a time with a unit, such as 250ms or 2m";
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    parsed.ok_or_else(|| advice.into())
}

#[cfg(test)]
mod tests {
    use super::parse;
    use std::time::Duration;

    #[test]
    fn a_number_is_in_seconds() {
        for (text, milliseconds) in [
            ("30", 30_000),
            ("0.5", 500),
            ("0", 0),
            ("250ms", 250),
            ("1m 30s", 90_000),
        ] {
            assert_eq!(
                parse(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for wrong in ["", "soon", "-1", "inf", "nan", "1e30", "5 apples"] {
            assert!(parse(wrong).unwrap_err().contains("250ms"), "{wrong}");
        }
    }
}
