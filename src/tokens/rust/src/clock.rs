//! `strftime_now`: Python's strftime in the C locale over a time that was handed in.

struct Civil {
    year: i64,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    week_day: usize, // 0: Sunday
    year_day: u32,   // 1..366
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

/// Days since 1970-01-01 to year, month, day: counts eras of 400 years from 1 March of year 0.
fn civil(unix_seconds: i64) -> Civil {
    let days = unix_seconds.div_euclid(86_400);
    let rest = unix_seconds.rem_euclid(86_400) as u32;
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let before: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let year_day = before[month as usize - 1] + day + u32::from(month > 2 && is_leap(year));
    Civil {
        year,
        month,
        day,
        hour: rest / 3_600,
        minute: rest / 60 % 60,
        second: rest % 60,
        week_day: (days + 4).rem_euclid(7) as usize,
        year_day,
    }
}

/// Unknown directives stay as they are, as glibc leaves them.
pub fn strftime(unix_seconds: i64, format: &str) -> String {
    let time = civil(unix_seconds);
    let mut out = String::with_capacity(format.len() + 16);
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = rest.next();
        let plain = directive == Some('-');
        if plain {
            directive = rest.next();
        }
        let Some(directive) = directive else {
            out.push_str(if plain { "%-" } else { "%" });
            break;
        };
        append(&mut out, &time, directive, plain, unix_seconds);
    }
    out
}

fn append(out: &mut String, time: &Civil, directive: char, plain: bool, unix_seconds: i64) {
    let number = |value: u32, width: usize| {
        if plain {
            value.to_string()
        } else {
            format!("{value:0width$}")
        }
    };
    let hour12 = (time.hour + 11) % 12 + 1;
    let text = match directive {
        'Y' => time.year.to_string(),
        'y' => number(time.year.rem_euclid(100) as u32, 2),
        'm' => number(time.month, 2),
        'd' => number(time.day, 2),
        'e' => format!("{:2}", time.day),
        'H' => number(time.hour, 2),
        'I' => number(hour12, 2),
        'M' => number(time.minute, 2),
        'S' => number(time.second, 2),
        'j' => number(time.year_day, 3),
        'f' => "000000".to_string(),
        'p' => if time.hour < 12 { "AM" } else { "PM" }.to_string(),
        'A' => DAYS[time.week_day].to_string(),
        'a' => DAYS[time.week_day][..3].to_string(),
        'B' => MONTHS[time.month as usize - 1].to_string(),
        'b' | 'h' => MONTHS[time.month as usize - 1][..3].to_string(),
        'w' => time.week_day.to_string(),
        'u' => if time.week_day == 0 { 7 } else { time.week_day }.to_string(),
        's' => unix_seconds.to_string(),
        'F' => format!("{}-{:02}-{:02}", time.year, time.month, time.day),
        'T' | 'X' => format!("{:02}:{:02}:{:02}", time.hour, time.minute, time.second),
        'R' => format!("{:02}:{:02}", time.hour, time.minute),
        'D' | 'x' => format!("{:02}/{:02}/{:02}", time.month, time.day, time.year.rem_euclid(100)),
        'c' => format!(
            "{} {} {:2} {:02}:{:02}:{:02} {}",
            &DAYS[time.week_day][..3],
            &MONTHS[time.month as usize - 1][..3],
            time.day,
            time.hour,
            time.minute,
            time.second,
            time.year
        ),
        'n' => "\n".to_string(),
        't' => "\t".to_string(),
        // A time zone is not known: Python prints nothing for a naive time.
        'z' | 'Z' => String::new(),
        '%' => "%".to_string(),
        other => {
            out.push_str(if plain { "%-" } else { "%" });
            out.push(other);
            return;
        }
    };
    out.push_str(&text);
}
