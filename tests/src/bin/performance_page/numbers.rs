//! How figures are written for people.

use perennial_tests::figures::Figure;

pub(crate) fn ratio(figure: Option<&Figure>, base: Option<&Figure>) -> String {
    match (figure, base) {
        (Some(figure), Some(base)) => times(figure.p50, base.p50),
        _ => none(),
    }
}

pub(crate) fn ratios(figure: Option<&Figure>, base: Option<&Figure>) -> String {
    match (figure, base) {
        (Some(figure), Some(base)) => {
            let p99 = times(figure.p99, base.p99);
            format!("{} / {p99}", times(figure.p50, base.p50))
        }
        _ => none(),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "two or three digits of it are shown"
)]
fn times(figure: u64, base: u64) -> String {
    let times = figure as f64 / base as f64;
    if times < 10.0 {
        format!("{times:.2}")
    } else {
        format!("{times:.0}")
    }
}

/// For what was not measured: who would have taken too long.
pub(crate) fn none() -> String {
    "-".to_owned()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "two or three digits of it are shown"
)]
pub(crate) fn duration(nanoseconds: u64) -> String {
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{:.1} us", nanoseconds as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", nanoseconds as f64 / 1e6),
        _ => format!("{:.2} s", nanoseconds as f64 / 1e9),
    }
}

/// Writes a number with commas between its thousands.
pub(crate) fn grouped(number: impl ToString) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OURS;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped(512), "512");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(times(5, 4), "1.25");
        assert_eq!(times(667, 10), "67");
        assert_eq!(duration(23), "23 ns");
        assert_eq!(duration(2_500), "2.5 us");
        assert_eq!(duration(1_250_000_000), "1.25 s");
    }

    #[test]
    fn a_contender_that_was_not_measured_gets_a_dash() {
        let measured = Figure::of("start", OURS, 10, vec![3, 1, 2]);
        assert_eq!(ratio(None, Some(&measured)), "-");
        assert_eq!(ratio(Some(&measured), Some(&measured)), "1.00");
    }
}
