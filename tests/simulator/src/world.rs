//! The whole state of the simulator, in memory, behind one lock.

use std::borrow::Cow;

use crate::app::App;
use crate::cast;
use crate::central::Central;
use crate::clock::Clock;
use crate::consent::Asked;
use crate::dice::Dice;
use crate::effect::Effect;
use crate::endpoint::Endpoint;
use crate::faults::{Faults, Occasion};
use crate::grants::{Grant, Grants};
use crate::identity;
use crate::journal::Journal;
use crate::options::{Avatars, Options};
use crate::qr::QrCode;
use crate::request::Request;
use crate::shelf::Shelf;
use crate::user::{Avatar, User};

/// Maximum open consent pages and QR codes.
const ROOM: usize = 10_000;
/// The host of real users' avatars.
const QLOGO: &str = "https://thirdwx.qlogo.cn";

#[derive(Debug)]
pub struct World {
    pub options: Options,
    pub clock: Clock,
    pub dice: Dice,
    pub apps: Vec<App>,
    pub users: Vec<User>,
    /// The current user if the browser names none.
    pub on_the_phone: String,
    pub journal: Journal,
    pub faults: Faults,
    pub grants: Grants,
    pub central: Central,
    pub asked: Shelf<Asked>,
    pub qr_codes: Shelf<QrCode>,
}

impl World {
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            clock: Clock::default(),
            dice: Dice::new(options.seed),
            apps: options.apps.clone(),
            users: cast::everybody(),
            on_the_phone: cast::DEFAULT.into(),
            journal: Journal::default(),
            faults: Faults::default(),
            grants: Grants::default(),
            central: Central::default(),
            asked: Shelf::with_room_for(ROOM),
            qr_codes: Shelf::with_room_for(ROOM),
            options,
        }
    }

    #[must_use]
    pub fn app(&self, appid: &str) -> Option<&App> {
        self.apps.iter().find(|app| app.appid == appid)
    }

    #[must_use]
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// The user of this request; `None` if the browser names an unknown one.
    #[must_use]
    pub fn person(&self, request: &Request) -> Option<&User> {
        self.user(request.sim_user().as_deref().unwrap_or(&self.on_the_phone))
    }

    #[must_use]
    pub fn unionid(&self, appid: &str, name: &str) -> Option<String> {
        let open_platform = self.app(appid)?.open_platform.as_deref()?;
        self.user(name)?.has_unionid.then(|| identity::unionid(open_platform, name))
    }

    /// The `headimgurl` of a user; empty without a picture.
    #[must_use]
    pub fn headimgurl(&self, user: &User) -> String {
        match &user.avatar {
            Avatar::Own => {
                let host = match &self.options.avatars {
                    Avatars::LikeWechat => QLOGO,
                    Avatars::Here => &format!("http://{}", self.options.listen),
                    Avatars::At(host) => host,
                };
                format!("{host}/mmopen/vi_32/{}/132", identity::avatar(&user.name))
            }
            Avatar::Missing => String::new(),
            Avatar::At(url) => url.clone(),
        }
    }

    /// The faults that apply to this request.
    pub fn strike(&mut self, endpoint: Endpoint, request: &Request) -> Vec<Effect> {
        let (appid, user) = self.subject(endpoint, request);
        self.strike_at(endpoint, appid.as_deref(), user.as_deref())
    }

    pub fn strike_at(&mut self, endpoint: Endpoint, appid: Option<&str>, user: Option<&str>) -> Vec<Effect> {
        let now = self.clock.now();
        self.faults.strike(Occasion { endpoint, appid, user }, now, &mut self.dice)
    }

    /// The app and the user of a request, as far as it names them.
    fn subject(&self, endpoint: Endpoint, request: &Request) -> (Option<String>, Option<String>) {
        let appid_param = Some(request.param("appid").to_owned()).filter(|appid| !appid.is_empty());
        let either = |grant: Option<&Grant>| match grant {
            Some(grant) => (Some(grant.appid.clone()), Some(grant.user.clone())),
            None => (appid_param.clone(), None),
        };
        match endpoint {
            Endpoint::Authorize | Endpoint::QrConnect => {
                (appid_param, self.person(request).map(|user| user.name.clone()))
            }
            Endpoint::AccessToken => {
                let code = self.grants.codes.get(request.param("code"));
                (appid_param, code.map(|code| code.grant.user.clone()))
            }
            Endpoint::RefreshToken => {
                either(self.grants.refresh_tokens.get(request.param("refresh_token")).map(|token| &token.grant))
            }
            Endpoint::Auth | Endpoint::UserInfo => {
                either(self.grants.access_tokens.get(request.param("access_token")).map(|token| &token.grant))
            }
            Endpoint::StableToken => {
                let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
                (body["appid"].as_str().map(str::to_owned), None)
            }
            Endpoint::JsapiTicket | Endpoint::Follower => {
                (self.central.appid_of(request.param("access_token")).map(str::to_owned), None)
            }
            Endpoint::AuthorizeReply => {
                let asked = self.asked.get(&uuid_of(request));
                (asked.map(|asked| asked.login.appid.clone()), asked.map(|asked| asked.user.clone()))
            }
            Endpoint::Confirm | Endpoint::LongPoll | Endpoint::QrCode => {
                let qr = self.qr_codes.get(&uuid_of(request));
                (qr.map(|qr| qr.login.appid.clone()), qr.and_then(|qr| qr.phase.user().map(str::to_owned)))
            }
            Endpoint::Callback | Endpoint::Any => (None, None),
        }
    }
}

/// The uuid that a page sends back: in the query, in a form, or at the end of the path.
#[must_use]
pub fn uuid_of(request: &Request) -> Cow<'_, str> {
    if let Some(uuid) = request.path.strip_prefix("/connect/qrcode/") {
        return uuid.into();
    }
    match request.param("uuid") {
        "" => request.form("uuid").unwrap_or_default().into(),
        uuid => uuid.into(),
    }
}
