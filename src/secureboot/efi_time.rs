//! EFI_TIME, as far as authenticated variables use it.

use std::fmt;

/// A second in UTC between 1970 and 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EfiTime {
    year: u16,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

/// A time that firmware cannot store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} seconds since 1970 is no time between the years 1970 and 9999")]
pub struct InvalidTime(pub i64);

impl EfiTime {
    /// Bytes in a file.
    pub const BYTES: usize = 16;

    /// The time so many seconds after 1970-01-01T00:00:00Z.
    ///
    /// # Errors
    /// Outside of the years 1970 to 9999.
    pub fn from_unix(seconds: i64) -> Result<EfiTime, InvalidTime> {
        let within = u64::try_from(seconds).ok();
        within.and_then(civil).ok_or(InvalidTime(seconds))
    }

    /// As RFC 3339 writes it: `2024-01-02T03:04:05Z`.
    pub fn rfc3339(self) -> String {
        let (year, month, day) = (self.year, self.month, self.day);
        let (hour, minute, second) = (self.hour, self.minute, self.second);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }

    /// UEFI 2.10, section 8.3: year, month, day, hour, minute, second. Padding, nanoseconds, time
    /// zone and daylight saving must be zero in authenticated variables (section 8.2.2).
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let [low, high] = self.year.to_le_bytes();
        let mut bytes = [0; Self::BYTES];
        bytes[..7].copy_from_slice(&[
            low,
            high,
            self.month,
            self.day,
            self.hour,
            self.minute,
            self.second,
        ]);
        bytes
    }
}

impl fmt::Display for EfiTime {
    /// To the minute, as `2024-01-02 03:04 UTC`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = (self.year, self.month, self.day);
        let (hour, minute) = (self.hour, self.minute);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
    }
}

/// Days and months from seconds, by the calendar of 400 years that starts on a first of March, so
/// that leap days come last.
fn civil(seconds: u64) -> Option<EfiTime> {
    const DAYS_PER_ERA: u64 = 146_097;
    /// From 0000-03-01 to 1970-01-01.
    const DAYS_TO_EPOCH: u64 = 719_468;
    let days = seconds / 86_400 + DAYS_TO_EPOCH;
    let (era, day) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = u16::try_from(era * 400 + year + next_year).ok()?;
    let part = |value: u64| u8::try_from(value).ok();
    (year <= 9999).then_some(EfiTime {
        year,
        month: part(month)?,
        day: part(day)?,
        hour: part(seconds / 3600 % 24)?,
        minute: part(seconds / 60 % 60)?,
        second: part(seconds % 60)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::asn1::Asn1Time;
    use proptest::prelude::*;

    #[test]
    fn a_time_is_stored_as_firmware_reads_it() {
        let time = EfiTime::from_unix(1_704_164_645).unwrap(); // 2024-01-02 03:04:05
        let mut bytes = [0; 16];
        bytes[..7].copy_from_slice(&[0xe8, 0x07, 1, 2, 3, 4, 5]);
        assert_eq!(time.to_bytes(), bytes);
        assert_eq!(time.to_string(), "2024-01-02 03:04 UTC");
    }

    #[test]
    fn times_that_no_firmware_knows_are_refused() {
        for seconds in [-1, i64::MIN, i64::MAX, 253_402_300_800] {
            assert_eq!(EfiTime::from_unix(seconds), Err(InvalidTime(seconds)));
        }
        assert_eq!(EfiTime::from_unix(253_402_300_799).unwrap().year, 9999);
    }

    proptest! {
        #[test]
        fn the_calendar_is_that_of_openssl(seconds in 0..253_402_300_800_i64) {
            let time = EfiTime::from_unix(seconds).unwrap();
            let text = format!("{:04}{:02}{:02}{:02}{:02}{:02}Z",
                time.year, time.month, time.day, time.hour, time.minute, time.second);
            let ours = Asn1Time::from_str_x509(&text).unwrap();
            let theirs = Asn1Time::from_unix(seconds).unwrap();
            prop_assert!(ours == theirs, "{}", text);
        }
    }
}
