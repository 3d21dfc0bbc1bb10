//! The label sets. The values come from closed sets: words of this program, applications and keys of the configuration,
//! WeChat's known error codes, and a bounded number of consumer groups.

use crate::app_name::AppName;
use crate::login_method::LoginMethod;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

macro_rules! labels {
    ($($name:ident { $($label:ident: $type:ty),+ })+) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name {
            $(pub $label: $type),+
        }
    )+};
}

labels! {
    AppLabels { app: AppName }
    BreakerLabels { appid: String, endpoint: &'static str }
    CauseLabels { cause: &'static str }
    CheckLabels { decision: &'static str, reason: &'static str }
    DropLabels { item: &'static str, reason: &'static str }
    EventLabels { event: &'static str }
    GroupLabels { group: String }
    ItemLabels { item: &'static str }
    KeyLabels { kid: String }
    LimitLabels { limit: &'static str }
    ListenerLabels { listener: &'static str }
    LoginFailureLabels { app: AppName, method: &'static str, class: &'static str, errcode: &'static str }
    LoginLabels { app: AppName, method: &'static str }
    OutcomeLabels { outcome: &'static str }
    QuotaLabels { appid: String, token: &'static str, mode: &'static str }
    ReasonLabels { reason: &'static str }
    RedisCallLabels { call: &'static str }
    RedisFailureLabels { call: &'static str, reason: &'static str }
    RejectionLabels { app: Option<AppName>, reason: &'static str }
    TokenFailureLabels { token: &'static str, class: &'static str, errcode: &'static str }
    TokenLabels { token: &'static str, source: &'static str }
    WechatCallLabels { endpoint: &'static str, outcome: &'static str }
}

impl EncodeLabelValue for AppName {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        self.as_str().encode(encoder)
    }
}

impl AppLabels {
    pub(super) fn of(app: &AppName) -> Self {
        Self { app: app.clone() }
    }
}

impl LoginLabels {
    pub(super) fn of(app: &AppName, method: LoginMethod) -> Self {
        Self { app: app.clone(), method: method.as_str() }
    }
}
