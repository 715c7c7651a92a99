use zhuji_storage::ErrorKind;

use super::Case;

pub(super) async fn upload_many(case: Case) {
    let mut files: Vec<(String, String)> = (0..40)
        .map(|index| (format!("m/{index}"), format!("content {index}")))
        .collect();
    files[7].0 = "../bad".to_owned();
    files[20].0 = String::new();
    let results = case.storage.upload_many(files.clone()).await;
    assert_eq!(results.len(), files.len());
    for (index, ((key, content), result)) in files.iter().zip(results).enumerate() {
        if index == 7 || index == 20 {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidKey);
        } else {
            let stored = result.unwrap();
            assert_eq!(
                (&stored.key, stored.size),
                (key, content.len() as u64),
                "in input order"
            );
            assert_eq!(case.storage.download(key).await.unwrap(), content);
        }
    }
    assert!(
        case.storage
            .upload_many(Vec::<(String, String)>::new())
            .await
            .is_empty()
    );
}

pub(super) async fn delete_many(case: Case) {
    let good = ["d/1", "d/2 文+", "d/&amp;<x>", "d/%2F", " d "];
    for key in good {
        case.storage.upload(key, "x").await.unwrap();
    }
    case.storage.upload("kept", "x").await.unwrap();
    let keys = [
        "d/1",
        "../bad",
        "d/2 文+",
        "never/was",
        "d/&amp;<x>",
        "",
        "d/%2F",
        " d ",
    ];
    let results = case.storage.delete_many(keys).await;
    assert_eq!(results.len(), keys.len());
    for (key, result) in keys.iter().zip(results) {
        match result {
            Ok(()) => assert!(!key.is_empty() && !key.starts_with("..")),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidKey, "{key:?}: {error}");
                assert!(key.is_empty() || key.starts_with(".."), "{key:?}: {error}");
            }
        }
    }
    for key in good {
        assert!(!case.storage.exists(key).await.unwrap(), "{key:?}");
    }
    assert!(case.storage.exists("kept").await.unwrap());
    assert!(case.storage.delete_many(Vec::<String>::new()).await.is_empty());
}
