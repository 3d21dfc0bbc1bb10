//! A server without WeChat's certificate receives no secret.

use super::*;
use crate::wechat::{Class, Endpoint, WechatError};
use base64::Engine as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, ServerConnection, crypto};
use tokio::net::TcpListener;

/// A self-signed certificate for 127.0.0.1, valid until 2126. Its private key was not kept: a client that verifies
/// the certificate aborts before the server needs the key.
const SELF_SIGNED: &str = "\
MIIBijCCATCgAwIBAgIUL0YICoxfbSJNIK5vMlWb4TQETzQwCgYIKoZIzj0EAwIwETEPMA0GA1UEAwwGbm9ib2R5MCAXDTI2MTEy\
MzEyMzc1MFoYDzIxMjYxMDMwMTIzNzUwWjARMQ8wDQYDVQQDDAZub2JvZHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATERdKN\
po5Txu5C96eHVV/SqhMVmfnfZn4glYEWFk8ZIVV0hZ/AlGklYvLyxgEc4Ya1glLvoVVCBBpdBPtIiZoDo2QwYjAdBgNVHQ4EFgQU\
Y4QGOfc0NsordpFO1AplAY1DK2kwHwYDVR0jBBgwFoAUY4QGOfc0NsordpFO1AplAY1DK2kwDwYDVR0TAQH/BAUwAwEB/zAPBgNV\
HREECDAGhwR/AAABMAoGCCqGSM49BAMCA0gAMEUCIQDBR61Al0w2nwbtyKDxq6p/ZmWGOktMyTDW9F/UZfoCZQIgUpB+fpW9kji8\
0DCZ8hI48ythmBBaV00aggGemJ87WBg=";

fn impostor() -> Arc<ServerConfig> {
    let certificate = base64::engine::general_purpose::STANDARD.decode(SELF_SIGNED).unwrap();
    let key = aws_lc_rs::signature::EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING);
    let key = key.unwrap().to_pkcs8v1().unwrap().as_ref().to_vec();
    let key = crypto::aws_lc_rs::sign::any_ecdsa_type(&PrivatePkcs8KeyDer::from(key).into()).unwrap();
    let shown = CertifiedKey::new(vec![CertificateDer::from(certificate)], key);
    let config = ServerConfig::builder().with_no_client_auth();
    Arc::new(config.with_cert_resolver(Arc::new(SingleCertAndKey::from(shown))))
}

#[tokio::test]
async fn an_untrusted_certificate_gets_no_secret() {
    install_provider();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let api = Url::parse(&format!("https://{}", listener.local_addr().unwrap())).unwrap();
    let (tells, mut told) = tokio::sync::mpsc::unbounded_channel();
    let config = impostor();
    let server = tokio::spawn(async move {
        loop {
            let mut stream = listener.accept().await.unwrap().0.into_std().unwrap();
            let (tells, config) = (tells.clone(), Arc::clone(&config));
            tokio::task::spawn_blocking(move || {
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                let mut connection = ServerConnection::new(config).unwrap();
                while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
                let _ = tells.send(connection.is_handshaking());
            });
        }
    });
    let breaker = breaker::Settings { failures: 1, open: Duration::from_secs(60) };
    let (client, _) = client(&Settings { breaker, ..settings(&api) });
    for _ in 0..3 {
        let error = client.exchange(&app(), &code()).await.unwrap_err();
        assert_eq!(error, WechatError::Certificate { endpoint: Endpoint::AccessToken });
        assert_eq!(error.class(), Class::Configuration);
        assert_eq!(told.recv().await, Some(true), "the client aborted the handshake");
        assert!(told.is_empty(), "no retry");
    }
    server.abort();
}
