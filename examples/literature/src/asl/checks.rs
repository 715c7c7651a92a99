//! What every module has to pass. Routes and jobs have tests of their own, through the service's binary.

use super::Asl;
use zhuji_testkit::module::ModuleService;

zhuji_testkit::assert_module!(Asl, exercise = search);

async fn search(service: &ModuleService) {
    let found = service.get("/literatures?query=paint").await;
    assert_eq!(
        (found.status, &found.json()["total"]),
        (200, &0.into()),
        "{found:?}"
    );
}
