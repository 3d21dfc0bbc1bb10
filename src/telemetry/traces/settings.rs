//! The settings from the standard `OTEL_*` variables.
//!
//! As the standard requires, an invalid value is reported and ignored. The report contains the name of the variable but
//! not its value, which may contain a token. The library itself reads `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`
//! and `OTEL_RESOURCE_ATTRIBUTES`.

use super::sampling::Sampling;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;
use url::Url;

/// The settings of the export.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The complete URL of the collector.
    pub endpoint: Url,
    /// The time-out of a batch, including retries.
    pub timeout: Duration,
    /// The sampler.
    pub sampling: Sampling,
    /// The maximum number of waiting spans.
    pub max_queue_size: usize,
    /// The maximum number of spans in one request.
    pub batch: usize,
    /// The pause between two batches.
    pub delay: Duration,
}

/// The result of reading the variables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParsedSettings {
    /// `None` if traces are off.
    pub settings: Option<Settings>,
    /// The invalid values.
    pub errors: Vec<String>,
}

/// The limits of the queue's length. A span takes about 2 KiB.
const WAITING: RangeInclusive<usize> = 1..=65_536;
/// The limits of time-outs, in milliseconds.
const TIMEOUT: RangeInclusive<u64> = 1..=60_000;
/// The limits of the pause between batches, in milliseconds.
const DELAY: RangeInclusive<u64> = 10..=600_000;

/// Reads the variables. Traces are off without an endpoint.
pub fn read(variable: impl Fn(&str) -> Option<String>) -> ParsedSettings {
    let mut reader = Reader { variable: &variable, errors: Vec::new() };
    let settings = reader.settings();
    ParsedSettings { settings, errors: reader.errors }
}

struct Reader<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    errors: Vec<String>,
}

impl Reader<'_> {
    fn settings(&mut self) -> Option<Settings> {
        if self.text("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            return None;
        }
        match self.text("OTEL_TRACES_EXPORTER").as_deref() {
            None | Some("otlp") => {}
            Some("none") => return None,
            Some(_) => {
                self.report("OTEL_TRACES_EXPORTER", "otlp and none are known here; nothing is traced");
                return None;
            }
        }
        let endpoint = self.endpoint()?;
        let protocol = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
        if let Some((name, protocol)) = self.first(&protocol)
            && protocol != "http/protobuf"
        {
            let advice =
                "http/protobuf is what is sent, which a collector takes at another port than gRPC, usually 4318";
            self.report(name, advice);
        }
        let sampling = self.sampling();
        if sampling.is_never() {
            return None;
        }
        let timeouts = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
        let timeout = self.number(&timeouts, TIMEOUT).unwrap_or(10_000);
        let at_most = self.number(&["OTEL_BSP_EXPORT_TIMEOUT"], TIMEOUT).unwrap_or(30_000);
        let max_queue_size = self.number(&["OTEL_BSP_MAX_QUEUE_SIZE"], WAITING).unwrap_or(2_048);
        let batch = self.number(&["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"], WAITING).unwrap_or(512);
        Some(Settings {
            endpoint,
            timeout: Duration::from_millis(timeout.min(at_most)),
            sampling,
            max_queue_size,
            batch: batch.min(max_queue_size),
            delay: Duration::from_millis(self.number(&["OTEL_BSP_SCHEDULE_DELAY"], DELAY).unwrap_or(5_000)),
        })
    }

    /// The variable for traces contains the complete URL; the general variable lacks the path.
    fn endpoint(&mut self) -> Option<Url> {
        let names = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
        let (name, text) = self.first(&names)?;
        let mut url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        if name == "OTEL_EXPORTER_OTLP_ENDPOINT"
            && let Some(Ok(mut path)) = url.as_mut().map(Url::path_segments_mut)
        {
            path.pop_if_empty().extend(["v1", "traces"]);
        }
        if url.is_none() {
            self.report(name, "no http or https address; nothing is traced");
        }
        url
    }

    fn sampling(&mut self) -> Sampling {
        const NAME: &str = "OTEL_TRACES_SAMPLER";
        const SHARE: &str = "OTEL_TRACES_SAMPLER_ARG";
        let Some(name) = self.text(NAME) else { return Sampling::default() };
        let share = match self.text(SHARE).map(|text| text.parse::<f64>()) {
            Some(Ok(share)) if (0.0..=1.0).contains(&share) => share,
            // The other samplers ignore this variable.
            Some(_) if name.ends_with("traceidratio") => {
                self.report(SHARE, "no number from 0 to 1; all are traced");
                1.0
            }
            None | Some(_) => 1.0,
        };
        Sampling::named(&name, share).unwrap_or_else(|| {
            self.report(NAME, "no sampler that is known here; parentbased_always_on is taken");
            Sampling::default()
        })
    }

    /// The first of these variables that is set, as a number in `range`.
    fn number<N>(&mut self, names: &[&'static str], range: RangeInclusive<N>) -> Option<N>
    where
        N: FromStr + PartialOrd + Copy + std::fmt::Display,
    {
        let (name, text) = self.first(names)?;
        let number = text.parse::<N>().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = (range.start(), range.end());
            self.report(name, &format!("no whole number from {least} to {most}; the default is taken"));
        }
        number
    }

    fn first(&self, names: &[&'static str]) -> Option<(&'static str, String)> {
        names.iter().find_map(|name| self.text(name).map(|text| (*name, text)))
    }

    /// The value of a variable; `None` if it is empty.
    fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn report(&mut self, name: &str, error: &str) {
        self.errors.push(format!("{name}: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(variables: &[(&str, &str)]) -> ParsedSettings {
        read(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    fn settings(variables: &[(&str, &str)]) -> Settings {
        let reading = reading(&[&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")], variables].concat());
        assert_eq!(reading.errors, [""; 0]);
        reading.settings.unwrap()
    }

    fn one_error(name: &str, value: &str) -> (String, Settings) {
        let mut reading = reading(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"), (name, value)]);
        assert_eq!(reading.errors.len(), 1, "{name}={value}");
        (reading.errors.remove(0), reading.settings.unwrap())
    }

    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

    #[test]
    fn without_an_endpoint_nothing_is_traced() {
        for variables in [
            &[][..],
            &[(ENDPOINT, "")],
            &[("OTEL_TRACES_SAMPLER", "always_on"), ("OTEL_SERVICE_NAME", "a")],
            &[(ENDPOINT, "http://c:4318"), ("OTEL_SDK_DISABLED", "TRUE")],
            &[(ENDPOINT, "http://c:4318"), ("OTEL_TRACES_EXPORTER", "none")],
            &[(ENDPOINT, "http://c:4318"), ("OTEL_TRACES_SAMPLER", "always_off")],
        ] {
            assert_eq!(reading(variables), ParsedSettings::default(), "{variables:?}");
        }
    }

    #[test]
    fn only_the_general_endpoint_gets_the_traces_path() {
        for (name, value, endpoint) in [
            (ENDPOINT, "http://c:4318", "http://c:4318/v1/traces"),
            (ENDPOINT, "http://c:4318/", "http://c:4318/v1/traces"),
            (ENDPOINT, "https://c/otlp", "https://c/otlp/v1/traces"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://t/own?key=1", "https://t/own?key=1"),
        ] {
            assert_eq!(reading(&[(name, value)]).settings.unwrap().endpoint.as_str(), endpoint);
        }
        let both = [(ENDPOINT, "http://c"), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t/own")];
        assert_eq!(reading(&both).settings.unwrap().endpoint.as_str(), "http://t/own");
    }

    #[test]
    fn what_is_not_said_is_as_the_standard_says() {
        let said = settings(&[]);
        assert_eq!((said.timeout, said.delay), (Duration::from_secs(10), Duration::from_secs(5)));
        assert_eq!((said.max_queue_size, said.batch), (2_048, 512));
        assert_eq!(said.sampling, Sampling::default());
    }

    #[test]
    fn each_variable_counts_and_the_ones_for_traces_first() {
        let said = settings(&[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "4000"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "300"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "200"),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
            ("OTEL_SDK_DISABLED", "false"),
            ("OTEL_TRACES_EXPORTER", "otlp"),
        ]);
        assert_eq!((said.timeout, said.delay), (Duration::from_millis(300), Duration::from_millis(50)));
        assert_eq!((said.max_queue_size, said.batch), (100, 100), "a batch is no larger than what may wait");
        assert_eq!(Some(said.sampling), Sampling::named("parentbased_traceidratio", 0.25));
        let shorter = settings(&[("OTEL_BSP_EXPORT_TIMEOUT", "2000")]);
        assert_eq!(shorter.timeout, Duration::from_secs(2));
    }

    #[test]
    fn an_unusable_variable_is_reported_without_its_value() {
        for (name, value, told) in [
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "no whole number from 1 to 65536; the default is taken"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "99999999999999", "no whole number from 1 to 65536; the default is taken"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "-1", "no whole number from 1 to 65536; the default is taken"),
            ("OTEL_BSP_SCHEDULE_DELAY", "0", "no whole number from 10 to 600000; the default is taken"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "soon", "no whole number from 1 to 60000; the default is taken"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "no whole number from 1 to 60000; the default is taken"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote", "no sampler that is known here; parentbased_always_on is taken"),
            (
                "OTEL_EXPORTER_OTLP_PROTOCOL",
                "grpc",
                "http/protobuf is what is sent, which a collector takes at another port than gRPC, usually 4318",
            ),
        ] {
            let (said, taken) = one_error(name, value);
            assert_eq!(said, format!("{name}: {told}"));
            assert_eq!(taken, settings(&[]), "{name}={value}");
        }
        for share in ["2", "-0.1", "NaN", "half"] {
            let variables = [
                (ENDPOINT, "http://c:4318"),
                ("OTEL_TRACES_SAMPLER", "traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", share),
            ];
            let reading = reading(&variables);
            assert_eq!(reading.errors, ["OTEL_TRACES_SAMPLER_ARG: no number from 0 to 1; all are traced"]);
            assert_eq!(Some(reading.settings.unwrap().sampling), Sampling::named("traceidratio", 1.0));
        }
    }

    #[test]
    fn what_leads_nowhere_turns_traces_off_and_is_told() {
        for value in ["localhost:4318", "/v1", "ftp://c", "http://", "unix:/run/c", "canary"] {
            let reading = reading(&[(ENDPOINT, value)]);
            assert_eq!(reading.settings, None, "{value}");
            assert_eq!(reading.errors, [format!("{ENDPOINT}: no http or https address; nothing is traced")]);
        }
        let reading = reading(&[(ENDPOINT, "http://c"), ("OTEL_TRACES_EXPORTER", "zipkin")]);
        assert!(reading.settings.is_none() && reading.errors.len() == 1);
    }
}
