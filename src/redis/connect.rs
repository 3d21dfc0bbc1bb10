//! Connects to a server that accepts writes.

use super::settings::{Address, Form, Settings};
use crate::secret::Secret;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo as _, Pipeline, RedisConnectionInfo, RedisError, RedisFuture, RedisResult, TlsCertificates,
    TlsMode, Value,
};
use std::time::Duration;

/// The longest attempt to connect to one server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the client of a Cluster follows `MOVED` and `ASK` within one call.
const CLUSTER_RETRIES: u32 = 4;

/// A connection to one server or to a Cluster. Clones share it.
#[derive(Clone)]
pub(super) enum RedisConnection {
    /// To one server.
    One(MultiplexedConnection),
    /// To all nodes of a Cluster.
    Cluster(ClusterConnection),
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

impl RedisConnection {
    /// Checks that the server answers and accepts writes.
    pub(super) async fn probe(&mut self) -> RedisResult<()> {
        match self {
            Self::One(connection) => match redis::cmd("ROLE").query_async::<Vec<Value>>(connection).await {
                Ok(role) => match role.first() {
                    Some(Value::BulkString(role)) if role == b"master" => Ok(()),
                    _ => Err(RedisError::from((ErrorKind::Client, "the server is a replica, not a master"))),
                },
                // The user may not call ROLE; an answer to PING must suffice.
                Err(error) if error.code() == Some("NOPERM") => {
                    redis::cmd("PING").query_async::<Value>(connection).await.map(drop)
                }
                Err(error) => Err(error),
            },
            Self::Cluster(connection) => redis::cmd("PING").query_async::<Value>(connection).await.map(drop),
        }
    }
}

/// Connects according to `settings`.
pub(super) async fn connect(settings: &Settings) -> RedisResult<RedisConnection> {
    let mut connection = match &settings.form {
        Form::Cluster { addresses } => RedisConnection::Cluster(cluster(settings, addresses).await?),
        Form::One { .. } | Form::Sentinel { .. } => {
            let client = server(settings).await?;
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT_TIMEOUT))
                .set_response_timeout(Some(settings.timeout));
            RedisConnection::One(client.get_multiplexed_async_connection_with_config(&config).await?)
        }
    };
    connection.probe().await?;
    Ok(connection)
}

/// A client of the server that accepts writes, or of a random node of a Cluster.
pub(super) async fn server(settings: &Settings) -> RedisResult<Client> {
    match &settings.form {
        Form::One { address, database } => client(settings, address, *database, own(settings)),
        Form::Sentinel { master, addresses, database, user, password } => {
            let login = (user.as_deref(), password.as_ref());
            let address = master_of(settings, master, addresses, login).await?;
            client(settings, &address, *database, own(settings))
        }
        Form::Cluster { addresses } => {
            let nth = fastrand::usize(..addresses.len().max(1));
            let address = addresses.get(nth).ok_or((ErrorKind::InvalidClientConfig, "no address"))?;
            client(settings, address, 0, own(settings))
        }
    }
}

type Login<'a> = (Option<&'a str>, Option<&'a Secret>);

fn own(settings: &Settings) -> Login<'_> {
    (settings.user.as_deref(), settings.password.as_ref())
}

fn client(settings: &Settings, address: &Address, database: i64, login: Login<'_>) -> RedisResult<Client> {
    let info = info(settings, address, database, login)?;
    if has_certificates(settings) { Client::build_with_tls(info, certificates(settings)) } else { Client::open(info) }
}

fn info(
    settings: &Settings,
    address: &Address,
    database: i64,
    (user, password): Login<'_>,
) -> RedisResult<ConnectionInfo> {
    let mut redis = RedisConnectionInfo::default().set_db(database);
    if let Some(user) = user {
        redis = redis.set_username(user);
    }
    if let Some(password) = password {
        redis = redis.set_password(password.expose());
    }
    let Address { host, port } = address.clone();
    let address = if settings.tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    Ok(address.into_connection_info()?.set_redis_settings(redis))
}

fn has_certificates(settings: &Settings) -> bool {
    settings.roots.is_some() || settings.client.is_some()
}

fn certificates(settings: &Settings) -> TlsCertificates {
    let client_tls = settings.client.as_ref().map(|client| ClientTlsConfig {
        client_cert: client.chain.clone(),
        client_key: client.key.expose().as_bytes().to_vec(),
    });
    TlsCertificates { client_tls, root_cert: settings.roots.clone() }
}

/// Asks the Sentinels in random order until one knows the master.
async fn master_of(settings: &Settings, master: &str, sentinels: &[Address], login: Login<'_>) -> RedisResult<Address> {
    let mut order: Vec<&Address> = sentinels.iter().collect();
    fastrand::shuffle(&mut order);
    let mut last = RedisError::from((ErrorKind::EmptySentinelList, "no Sentinel is named"));
    for sentinel in order {
        let result = tokio::time::timeout(CONNECT_TIMEOUT, async {
            let client = client(settings, sentinel, 0, login)?;
            let mut connection = client.get_multiplexed_async_connection().await?;
            let mut command = redis::cmd("SENTINEL");
            command.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
            command.query_async::<Option<(String, u16)>>(&mut connection).await
        });
        match result.await {
            Ok(Ok(Some((host, port)))) => return Ok(Address { host, port }),
            Ok(Ok(None)) => {
                last = RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, "no Sentinel knows this master"));
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = RedisError::from((ErrorKind::Io, "no Sentinel answered in time")),
        }
    }
    Err(last)
}

async fn cluster(settings: &Settings, addresses: &[Address]) -> RedisResult<ClusterConnection> {
    let login = own(settings);
    let nodes = addresses.iter().map(|address| info(settings, address, 0, login)).collect::<RedisResult<Vec<_>>>()?;
    let mut builder = ClusterClientBuilder::new(nodes)
        .connection_timeout(CONNECT_TIMEOUT)
        .response_timeout(settings.timeout)
        .retries(CLUSTER_RETRIES)
        .min_retry_wait(20)
        .max_retry_wait(200);
    if settings.tls {
        builder = builder.tls(TlsMode::Secure);
    }
    if has_certificates(settings) {
        builder = builder.certs(certificates(settings));
    }
    builder.build()?.get_async_connection().await
}
