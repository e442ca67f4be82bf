//! A browser without JavaScript: it keeps cookies, reads pages and sends forms.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{HeaderMap, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;

use crate::support::server::Server;
use crate::support::wait;

/// A page as it arrived.
pub struct Page {
    /// The path that was asked for.
    pub path: String,
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

/// A form on a page.
#[derive(Debug, Clone)]
pub struct Form {
    pub action: String,
    hidden: Vec<(String, String)>,
}

pub struct Visitor {
    pub url: String,
    http: Client,
    pub cookies: RefCell<BTreeMap<String, String>>,
}

impl Visitor {
    /// One who is not signed in.
    pub fn new(server: &Server) -> Self {
        Self::from_address(server, Ipv4Addr::LOCALHOST.into())
    }

    /// The same, who comes from this address of the machine.
    pub fn from_address(server: &Server, address: IpAddr) -> Self {
        // The crate's TLS library is chosen by its user; twice the same one is no error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder()
            .no_proxy()
            .local_address(address)
            .redirect(Policy::none())
            .timeout(Duration::from_secs(60))
            .build();
        Visitor {
            url: server.url.clone(),
            http: http.expect("an HTTP client"),
            cookies: RefCell::default(),
        }
    }

    /// One who signed in by a link.
    pub fn signed_in(server: &Server) -> Self {
        Self::signed_in_as(server, "admin")
    }

    /// The same, as this operator, whose account is made if there is none.
    pub fn signed_in_as(server: &Server, name: &str) -> Self {
        let visitor = Visitor::new(server);
        let page = visitor.get(&login_link_of(server, name));
        let signed_in = visitor.submit(&page.form("/login/"), &[]);
        assert_eq!(signed_in.status, 200, "{}", signed_in.body);
        visitor
    }

    pub fn get(&self, path: &str) -> Page {
        self.send(path, self.http.get(self.address(path)))
    }

    /// Sends a form and follows where it leads.
    pub fn submit(&self, form: &Form, fields: &[(&str, &str)]) -> Page {
        let mut page = self.post(form, fields, &[]);
        for _ in 0..5 {
            let Some(next) = page.headers.get(LOCATION) else {
                return page;
            };
            page = self.get(next.to_str().expect("a location"));
        }
        panic!("redirects without end");
    }

    /// Sends a form with these further headers, and returns the very answer.
    pub fn post(&self, form: &Form, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Page {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in &form.hidden {
            body.append_pair(name, value);
        }
        for (name, value) in fields {
            body.append_pair(name, value);
        }
        let mut request = self
            .http
            .post(self.address(&form.action))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.finish());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(&form.action, request)
    }

    /// Waits until a page holds a text.
    pub fn wait_for(&self, path: &str, text: &str, limit: Duration) -> Page {
        let what = format!("{path} to show {text:?}");
        wait::until_true(
            &what,
            limit,
            || self.get(path).text(),
            || self.get(path).body.contains(text),
        );
        self.get(path)
    }

    /// A request with the visitor's cookies.
    pub fn with_cookies(&self, request: RequestBuilder) -> Response {
        let cookies: Vec<_> = self
            .cookies
            .borrow()
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = if cookies.is_empty() {
            request
        } else {
            request.header("cookie", cookies.join("; "))
        };
        request.send().expect("the server answers")
    }

    pub fn request(&self, method: reqwest::Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.address(path))
    }

    fn send(&self, path: &str, request: RequestBuilder) -> Page {
        let response = self.with_cookies(request);
        self.keep_cookies(response.headers());
        Page {
            path: path.to_owned(),
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.text().expect("a body"),
        }
    }

    fn keep_cookies(&self, headers: &HeaderMap) {
        for cookie in headers.get_all(SET_COOKIE) {
            let cookie = cookie.to_str().expect("a cookie");
            let (name, rest) = cookie.split_once('=').expect("a cookie's name");
            let value = rest.split(';').next().expect("a cookie's value");
            let mut cookies = self.cookies.borrow_mut();
            if cookie.contains("Max-Age=0;") {
                cookies.remove(name)
            } else {
                cookies.insert(name.to_owned(), value.to_owned())
            };
        }
    }

    fn address(&self, path: &str) -> String {
        if path.starts_with("http") {
            path.to_owned()
        } else {
            format!("{}{path}", self.url)
        }
    }
}

impl Page {
    /// The first form whose action holds this.
    #[track_caller]
    pub fn form(&self, action: &str) -> Form {
        let found = self.forms().into_iter().find(|f| f.action.contains(action));
        found.unwrap_or_else(|| panic!("no form for {action} on {}:\n{}", self.path, self.body))
    }

    /// All forms, and as forms of their own the buttons that send one elsewhere.
    pub fn forms(&self) -> Vec<Form> {
        let mut forms = Vec::new();
        for part in self.body.split("<form ").skip(1) {
            let html = part.split("</form>").next().expect("the form's part");
            let hidden: Vec<_> = html
                .split("<input type=\"hidden\"")
                .skip(1)
                .map(|input| (attribute(input, "name"), attribute(input, "value")))
                .collect();
            let actions = html.split("formaction=\"").skip(1);
            let elsewhere =
                actions.map(|rest| rest.split('"').next().expect("an action").to_owned());
            for action in std::iter::once(attribute(html, "action")).chain(elsewhere) {
                forms.push(Form {
                    action,
                    hidden: hidden.clone(),
                });
            }
        }
        forms
    }

    /// The paths of this server to which the page links.
    pub fn links(&self) -> Vec<String> {
        let links = self.body.split("href=\"/").skip(1);
        links
            .map(|rest| format!("/{}", rest.split('"').next().expect("a link")))
            .collect()
    }

    /// The first link whose address holds this.
    #[track_caller]
    pub fn link_to(&self, part: &str) -> String {
        let links = self.body.split("href=\"").skip(1);
        let mut links = links.map(|rest| unescaped(rest.split('"').next().expect("a link")));
        let found = links.find(|link| link.contains(part));
        found.unwrap_or_else(|| panic!("no link to {part} on {}:\n{}", self.path, self.text()))
    }

    /// Where the link with this id leads.
    #[track_caller]
    pub fn link_of(&self, id: &str) -> String {
        let start = format!("<a class=\"button second\" id=\"{id}\"");
        let found = self.body.split(&start).nth(1);
        let rest = found.unwrap_or_else(|| panic!("no {id} on {}:\n{}", self.path, self.text()));
        attribute(rest, "href")
    }

    /// What stands in the element with this id, which holds text only.
    #[track_caller]
    pub fn element(&self, id: &str) -> String {
        let start = format!("id=\"{id}\"");
        let rest = self.body.split(&start).nth(1);
        let rest = rest.unwrap_or_else(|| panic!("no {id} on {}:\n{}", self.path, self.body));
        let text = rest.split_once('>').expect("a tag's end").1;
        unescaped(text.split('<').next().expect("a text"))
    }

    /// The words of the page without its markup.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for part in self.body.split('<') {
            let words = part.split_once('>').map_or("", |(_, words)| words).trim();
            if !words.is_empty() {
                text.push_str(words);
                text.push('\n');
            }
        }
        unescaped(&text)
    }

    #[track_caller]
    pub fn expect(&self, texts: &[&str]) -> &Self {
        for text in texts {
            assert!(
                self.text().contains(text),
                "no {text:?} on {}:\n{}",
                self.path,
                self.text()
            );
        }
        self
    }
}

impl Form {
    /// The same without or with another token.
    pub fn with_token(&self, token: Option<&str>) -> Form {
        let mut form = self.clone();
        form.hidden.retain(|(name, _)| name != "csrf");
        form.hidden
            .extend(token.map(|token| ("csrf".to_owned(), token.to_owned())));
        form
    }

    pub fn token(&self) -> String {
        let token = self.hidden.iter().find(|(name, _)| name == "csrf");
        token.expect("a form token").1.clone()
    }
}

/// A new link from the server's own command.
pub fn login_link(server: &Server) -> String {
    login_link_of(server, "admin")
}

/// A new link for this operator.
pub fn login_link_of(server: &Server, name: &str) -> String {
    let output = server
        .command("login-link")
        .args(["--name", name])
        .output()
        .expect("the command runs");
    assert!(output.status.success(), "{output:?}");
    let link = String::from_utf8(output.stdout).expect("text");
    link.trim().to_owned()
}

fn attribute(html: &str, name: &str) -> String {
    let start = format!("{name}=\"");
    let value = html.split(&start).nth(1).unwrap_or("");
    unescaped(value.split('"').next().unwrap_or(""))
}

fn unescaped(html: &str) -> String {
    html.replace("&#60;", "<")
        .replace("&#62;", ">")
        .replace("&#34;", "\"")
        .replace("&#39;", "'")
        .replace("&#38;", "&")
}
