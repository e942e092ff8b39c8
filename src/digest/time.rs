//! Reads the time formats that Microsoft's logs and exports really use (`domain` §1.3: eleven of them).

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Milliseconds since the Unix epoch.
pub type Millis = i64;

/// Reads a time; without a zone it is UTC. US dates are month first.
///
/// `2007-01-09T09:41:00.6816663Z`, with any number of fraction digits, an offset, a blank for the `T` or no zone;
/// `1/9/2007 9:41:00 AM +01:00`, padded or not, with or without AM/PM, a comma, a fraction or an offset.
pub fn parse(text: &str) -> Option<Millis> {
    if let Some(millis) = usual(text.as_bytes()) {
        return Some(millis);
    }
    let text = text.trim().trim_end_matches(" UTC");
    let (date, rest) = split_date(text)?;
    let (clock, rest) =
        rest.split_at(rest.find(|c: char| !matches!(c, '0'..='9' | ':' | '.')).unwrap_or(rest.len()));
    let (hour, minute, second, millis) = parse_clock(clock)?;
    let rest = rest.trim();
    let (hour, zone) = match rest.get(..2).map(str::to_ascii_uppercase).as_deref() {
        Some("AM") => (hour % 12, rest[2..].trim()),
        Some("PM") => (hour % 12 + 12, rest[2..].trim()),
        _ => (hour, rest),
    };
    let millis = millis_of(date, (hour, minute, second), millis)?;
    Some(millis - offset_seconds(zone)? * 1000)
}

fn millis_of((year, month, day): (i16, i8, i8), clock: (i8, i8, i8), millis: Millis) -> Option<Millis> {
    // Year 1 is what .NET writes where nobody set a time.
    let civil = DateTime::new(year, month, day, clock.0, clock.1, clock.2, 0).ok().filter(|_| year > 1)?;
    Some(TimeZone::UTC.to_timestamp(civil).ok()?.as_second() * 1000 + millis)
}

/// The form that nearly every record has, `2007-01-09T09:41:00.6816663Z` or `…+00:00`, without a search for its parts.
fn usual(text: &[u8]) -> Option<Millis> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', i1, i2, b':', s1, s2, rest @ ..] =
        text
    else {
        return None;
    };
    let number = |digits: &[&u8]| {
        digits.iter().try_fold(0i16, |number, digit| {
            digit.is_ascii_digit().then(|| number * 10 + i16::from(**digit - b'0'))
        })
    };
    let two = |first, second| number(&[first, second]).and_then(|number| i8::try_from(number).ok());
    let fraction = match rest {
        [b'.', fraction @ .., b'Z'] | [b'.', fraction @ .., b'+', b'0', b'0', b':', b'0', b'0'] => fraction,
        [b'Z'] | [b'+', b'0', b'0', b':', b'0', b'0'] => &[],
        _ => return None,
    };
    let millis = thousandths(fraction)?;
    millis_of(
        (number(&[y1, y2, y3, y4])?, two(m1, m2)?, two(d1, d2)?),
        (two(h1, h2)?, two(i1, i2)?, two(s1, s2)?),
        millis,
    )
}

/// RFC 3339 in UTC with milliseconds.
pub fn format(millis: Millis) -> String {
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), |time| format!("{time:.3}"))
}

fn split_date(text: &str) -> Option<((i16, i8, i8), &str)> {
    let end = text.find(['T', 't', ' ', ','])?;
    let (date, rest) = text.split_at(end);
    let mut parts = date.split(['-', '/']);
    let (first, second, third) = (parts.next()?, parts.next()?, parts.next()?);
    let (year, month, day) = if first.len() == 4 { (first, second, third) } else { (third, first, second) };
    if parts.next().is_some() || year.len() != 4 {
        return None;
    }
    let date = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
    Some((date, rest.trim_start_matches(['T', 't', ' ', ','])))
}

fn parse_clock(clock: &str) -> Option<(i8, i8, i8, Millis)> {
    let mut parts = clock.split(':');
    let (hour, minute) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let (second, fraction) =
        parts.next().map_or(("0", ""), |second| second.split_once('.').unwrap_or((second, "")));
    Some((hour, minute, second.parse().ok()?, thousandths(fraction.as_bytes())?))
}

/// Of a fraction with any number of digits.
fn thousandths(fraction: &[u8]) -> Option<Millis> {
    let digits = fraction.iter().chain(b"000").take(3);
    let millis = digits.fold(0, |millis, digit| millis * 10 + Millis::from(digit.wrapping_sub(b'0')));
    fraction.iter().all(u8::is_ascii_digit).then_some(millis)
}

/// Seconds east of UTC.
fn offset_seconds(zone: &str) -> Option<i64> {
    if zone.is_empty() || zone.eq_ignore_ascii_case("z") || zone.eq_ignore_ascii_case("utc") {
        return Some(0);
    }
    let sign = match zone.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits: String = zone[1..].chars().filter(|c| *c != ':').collect();
    let (hours, minutes) = digits.split_at_checked(2)?;
    let minutes: i64 = if minutes.is_empty() { 0 } else { minutes.parse().ok()? };
    Some(sign * (hours.parse::<i64>().ok()? * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(parse(text).map(format).unwrap_or_default(), expected, "{text:?}");
    }

    #[test]
    fn every_format_of_the_logs_is_read() {
        let nine = "2007-01-09T09:41:00.000Z";
        check("01/09/2007 09:41:00", nine);
        check("1/9/2007 09:41:00", nine);
        check("01/09/2007 09:41:00 AM", nine);
        check("1/9/2007 9:41:00 AM", nine);
        check("1/9/2007 10:41:00 AM +01:00", nine);
        check("2007-01-09T09:41:00", nine);
        check("2007-01-09T09:41:00.22Z", "2007-01-09T09:41:00.220Z");
        check("2007-01-09T09:41:00.6816663Z", "2007-01-09T09:41:00.681Z");
        check("2007-01-09T09:41:00.535404056Z", "2007-01-09T09:41:00.535Z");
        check("2007-01-09T09:41:00.992099+00:00", "2007-01-09T09:41:00.992Z");
        check("2007-01-09T11:41:00+02:00", nine);
    }

    #[test]
    fn exports_write_times_of_their_own() {
        check("12/12/2025 3:03:58 PM", "2025-12-12T15:03:58.000Z");
        check("12/12/2025 12:03:58 AM", "2025-12-12T00:03:58.000Z");
        check("11/20/2026, 3:12:45.123 AM", "2026-11-20T03:12:45.123Z");
        check("2026-11-20 03:12:45Z", "2026-11-20T03:12:45.000Z");
        check("2026-11-20T03:12:45-05:00", "2026-11-20T08:12:45.000Z");
    }

    #[test]
    fn nonsense_is_no_time() {
        for text in [
            "",
            "yesterday",
            "2026-13-40T00:00:00Z",
            "2026-11-20",
            "2026-11-20T99:00:00Z",
            "1/2",
            "2026-11-20T03:12:45..Z",
            "2026-11-20T03:12:45.1.2Z",
            "0001-01-01T00:00:00Z",
            "1/1/0001 12:00:00 AM",
            "日本語 12:00:00",
        ] {
            check(text, "");
        }
    }
}
