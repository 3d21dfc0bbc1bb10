//! The settings of one rule of the policy.

use crate::config::text::MethodName;
use crate::decision::Requirement;
use crate::policy::{self, HostMatch, Network, PathMatch, PathPattern, PathPrefix};
use crate::subject::Subject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One rule of the policy. Parts that are absent match everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// The application's host, with its port if the origin has one; default all applications. `*` is any host, even one
    /// that no application has, for health checks by address; it requires `access: public` and a path, and opens only what
    /// no rule of an application restricts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostMatch>,
    /// A path and all below it, by whole segments. Not together with `path_pattern`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_prefix: Option<PathPrefix>,
    /// A path by segments: `*` matches one segment; `**`, at the end, any number; `*.js`, at the end and also after `**`, a
    /// segment with that extension. Not together with `path_prefix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_pattern: Option<PathPattern>,
    /// The methods, in capitals; GET includes HEAD. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub methods: Option<Vec<MethodName>>,
    /// The networks of the client address, such as `10.0.0.0/8`; default all. The source of the address is
    /// `gateway.client_address`; a request without an address must meet the strictest requirement of these rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub clients: Option<Vec<Network>>,
    /// Whether the path may contain `%2F`, `%5C` and double encoding, which are denied otherwise; default false.
    #[serde(default)]
    pub allow_encoded_slashes: bool,
    /// What a request must show.
    pub access: Access,
    /// The only users who may pass, as `wx:union:<unionid>` or `wx:<appid>:<openid>`; with `access: required`. Default
    /// all logged-in users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub subjects: Option<Vec<Subject>>,
}

/// What a rule requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Access {
    /// Nothing. The application receives no identity.
    Public,
    /// Nothing. The application receives the identity if there is a session.
    Optional,
    /// A session.
    Required,
}

impl Rule {
    /// Which hosts it is about.
    pub(crate) fn host(&self) -> HostMatch {
        self.host.clone().unwrap_or(HostMatch::Applications)
    }

    /// Which paths it is about.
    pub(crate) fn path(&self) -> PathMatch {
        match (&self.path_prefix, &self.path_pattern) {
            (Some(prefix), _) => prefix.0.clone(),
            (None, Some(pattern)) => pattern.0.clone(),
            (None, None) => PathMatch::Any,
        }
    }

    /// The rule as the policy applies it.
    pub(crate) fn resolve(&self) -> policy::Rule {
        let requirement = match (self.access, &self.subjects) {
            (Access::Public, _) => Requirement::Public,
            (Access::Optional, _) => Requirement::Optional,
            (Access::Required, None) => Requirement::Required,
            (Access::Required, Some(subjects)) => Requirement::Subjects(subjects.as_slice().into()),
        };
        policy::Rule {
            host: self.host(),
            path: self.path(),
            methods: self.methods.as_ref().map(|methods| methods.iter().map(|method| method.0.clone()).collect()),
            clients: self.clients.as_ref().map(|clients| clients.iter().map(|network| network.0).collect()),
            allow_encoded_slashes: self.allow_encoded_slashes,
            requirement,
        }
    }
}
