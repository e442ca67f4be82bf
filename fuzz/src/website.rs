//! The server's pages and API without a socket, and everybody who may use them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use holistics_tunnel::server::cluster::tunnels::Tunnels;
use holistics_tunnel::server::data_dir::DataDir;
use holistics_tunnel::server::domain::ControlPlane;
use holistics_tunnel::server::domain::address::PublicAddress;
use holistics_tunnel::server::domain::api_tokens::{self, NewToken};
use holistics_tunnel::server::domain::changes::Changes;
use holistics_tunnel::server::domain::idempotency::UnderWay;
use holistics_tunnel::server::domain::operators;
use holistics_tunnel::server::domain::proxies::{TrustedProxies, network};
use holistics_tunnel::server::domain::regions::Regions;
use holistics_tunnel::server::domain::secret::SecretKey;
use holistics_tunnel::server::domain::token::Token;
use holistics_tunnel::server::http::app::App;
use holistics_tunnel::server::http::connections::{Bounds, Connections};
use holistics_tunnel::server::http::downloads::Downloads;
use holistics_tunnel::server::http::router::router;
use holistics_tunnel::server::http::shared::Shared;
use holistics_tunnel::server::metrics::counts::Metrics;
use holistics_tunnel::server::regions;
use holistics_tunnel::server::sign_in_link::SignInLinkFile;
use holistics_tunnel::server::store::{PortRange, Region, Role, Scope, SessionLimits};
use holistics_tunnel::server::tunnel_server::{Limits, TunnelServer, TunnelServerConfig};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower_service::Service;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

const DAY: Duration = Duration::from_secs(24 * 3600);

type Credential = (HeaderMap, Option<String>);

pub struct Website {
    router: Router,
    credentials: Vec<Credential>,
    _folder: TempDir,
}

impl Website {
    /// Nobody, two operators' tokens, a signed-in browser, and a bastion before and after its setup.
    pub const CREDENTIALS: usize = 6;

    /// A new one, with one data source.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let app = Arc::new(app(&folder).await.expect("the server starts"));
        let token = async |name, scope| {
            let new = NewToken {
                name,
                scope,
                lifetime: Some(DAY),
            };
            let made = api_tokens::create(&app.store, &new, None).await;
            bearer(made.expect("a token").as_str())
        };
        let (operate, read) = (
            token("one", Scope::Operate).await,
            token("other", Scope::Read).await,
        );
        let browser = browser(&app).await;
        let mut website = Website {
            router: router(app),
            credentials: vec![
                (HeaderMap::new(), None),
                (operate, None),
                (read, None),
                browser,
            ],
            _folder: folder,
        };
        for token in website.set_up().await {
            website.credentials.push((bearer(&token), None));
        }
        website
    }

    /// What a request carries by which its sender is known, and what its forms carry.
    pub fn credential(&self, number: usize) -> Credential {
        self.credentials[number].clone()
    }

    pub async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let answer = self.router.clone().call(request).await;
        answer.unwrap_or_else(|never| match never {})
    }

    /// The tokens of two bastions: of one that is to be set up, and of one that was.
    async fn set_up(&self) -> [String; 2] {
        let first = self.enrollment_token().await;
        let registered =
            json!({"public_key": KEY, "hostname": "bastion", "os": "Debian", "user": "ada"});
        let call = (Method::PUT, "/api/v1/enrollment/public-key");
        let enrolled = self.call(call, bearer(&first), registered).await;
        let token = enrolled["tunnel_token"].as_str();
        let token = token
            .unwrap_or_else(|| panic!("no tunnel token: {enrolled}"))
            .to_owned();
        [self.enrollment_token().await, token]
    }

    async fn enrollment_token(&self) -> String {
        let new = json!({"display_name": "Shop", "database_type": "postgresql", "host": "10.0.0.5", "port": 5432});
        let (operator, _) = self.credential(1);
        let created = self
            .call((Method::POST, "/api/v1/data-sources"), operator, new)
            .await;
        let command = created["enrollment"]["command"].as_str();
        let command = command.unwrap_or_else(|| panic!("no command: {created}"));
        let (_, rest) = command
            .split_once("/i/")
            .expect("the command has an address");
        rest.split(' ').next().expect("it has a token").to_owned()
    }

    async fn call(&self, (method, path): (Method, &str), headers: HeaderMap, body: Value) -> Value {
        let mut request = Request::new(Body::from(body.to_string()));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("it is a path");
        *request.headers_mut() = headers;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 4711)));
        request.extensions_mut().insert(peer);
        let body = self.answer(request).await.into_body().collect().await;
        serde_json::from_slice(&body.expect("an answer").to_bytes()).expect("it is JSON")
    }
}

fn bearer(token: &str) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).expect("a token is plain");
    HeaderMap::from_iter([(header::AUTHORIZATION, value)])
}

async fn browser(app: &App) -> Credential {
    operators::login_link(&app.store, "ann")
        .await
        .expect("an account");
    let account = app.store.operator("ann").await;
    let account = account.expect("the database answers").expect("it is there");
    let session = Token::session();
    let hash = session.hash();
    let begun = app.store.begin_session(&hash, &account, "by link").await;
    assert!(begun.expect("the database answers"));
    let form_token = app.secret.form_token(session.as_str());
    let plain = |text: &str| HeaderValue::from_str(text).expect("a token is plain");
    let headers = [
        (
            header::COOKIE,
            plain(&format!("holistics-tunnel={}", session.as_str())),
        ),
        (HeaderName::from_static("x-csrf-token"), plain(&form_token)),
    ];
    (HeaderMap::from_iter(headers), Some(form_token))
}

async fn app(folder: &TempDir) -> anyhow::Result<App> {
    let data_dir = DataDir::open_or_create(&folder.path().join("data"))?;
    let public = PublicAddress {
        url: "http://127.0.0.1:8080".to_owned(),
        ssh_host: "127.0.0.1".to_owned(),
        ssh_port: 50022,
    };
    let trusted_proxies = TrustedProxies::new(vec![network("127.0.0.1").expect("an address")]);
    let region = Region {
        name: "default".to_owned(),
        ssh_hosts: vec![public.ssh_host.clone()],
        ssh_port: public.ssh_port,
        ports: PortRange::new(20_000, 65_000).expect("a range"),
        is_settled: false,
    };
    let store = data_dir.open_store(true).await?;
    let tunnels = TunnelServerConfig {
        ssh_listen: ([127, 0, 0, 1], 0).into(),
        forward_listen: [127, 0, 0, 1].into(),
        host_key_dir: data_dir.host_keys(),
        trusted_proxies: trusted_proxies.clone(),
        limits: Limits::default(),
    };
    let tunnels = TunnelServer::start(tunnels, Arc::new(store.clone())).await?;
    let app = App {
        connections: Connections::new(
            Bounds {
                in_all: 100,
                per_address: 100,
            },
            trusted_proxies.clone(),
        ),
        trusted_proxies,
        web: Shared::new(
            &public.url,
            SessionLimits {
                idle: DAY,
                lifetime: DAY,
            },
        )?,
        sign_in_link: SignInLinkFile::of(&data_dir),
        downloads: Downloads::new(Some(folder.path().to_owned())),
        metrics: Metrics::default(),
        control: Arc::new(ControlPlane {
            store,
            secret: SecretKey::load_or_create(&data_dir.secret_key())?,
            regions: Regions::new(region),
            public,
            changes: Changes::new(),
            enrollment_ttl: DAY,
            key_overlap: DAY,
            port_rest: DAY,
            forward_listen: [127, 0, 0, 1].into(),
            direct_loopback_allowed: false,
            under_way: UnderWay::default(),
            tunnels: Tunnels::new(Some(tunnels), None, None),
            keys: None,
        }),
    };
    regions::begin(&app, Role::All).await?;
    Ok(app)
}
