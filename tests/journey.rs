//! x
mod support;

#[test]
fn pg() {
    let pg = support::postgres::Postgres::shared();
    let mut c = support::sql::Client::connect(pg.port(), &pg.login()).unwrap();
    assert_eq!(c.number("select count(*) from orders").unwrap(), 1000);
    let b = support::bastion::Bastion::without(&["ssh", "ssh-keygen"]);
    let f = b.run(b.any_program("sh").args(["-c", "command -v curl; command -v ssh"]));
    println!("{f}");
    let r = support::ports::PortRange::claim(10);
    println!("{}", r.flag());
    let b = support::bastion::Bastion::new();
    let r = b.start(b.any_program("sleep").arg("100"));
    println!("{:?}", b.processes("sleep"));
    assert!(r.is_running());
    std::process::Command::new("find").arg("/tmp").args(["-maxdepth","1","-name","ht-*"]).status().unwrap();
    if std::env::var("ABORT").is_ok() { std::process::abort() }
}
