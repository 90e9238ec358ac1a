use super::*;

#[test]
fn a_page_of_a_listing() {
    let xml = br#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
    <Name>bucket</Name>
    <Prefix/>
    <KeyCount>205</KeyCount>
    <MaxKeys>1000</MaxKeys>
    <EncodingType>url</EncodingType>
    <IsTruncated>true</IsTruncated>
    <Contents>
        <Key>a%20b/0000/x.ltx</Key>
        <LastModified>2009-10-12T17:50:30.000Z</LastModified>
        <ETag>"fba9dede5f27731c9771645a39863328"</ETag>
        <Size>434234</Size>
        <StorageClass>STANDARD</StorageClass>
        <Owner><ID>75aa57f</ID><DisplayName>me</DisplayName></Owner>
    </Contents>
    <Contents><Key>b&amp;c&#x2F;d</Key><Size>0</Size></Contents>
    <NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</NextContinuationToken>
</ListBucketResult>"#;
    let page = list(xml).unwrap();
    assert!(page.url_encoded);
    assert_eq!(page.truncated, Some(true));
    assert_eq!(page.token.as_deref(), Some("1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM="));
    assert_eq!(
        page.entries,
        [
            ListEntry {
                key: "a%20b/0000/x.ltx".into(),
                size: 434_234,
                modified: Some(Millis(1_255_369_830_000)),
                etag: "\"fba9dede5f27731c9771645a39863328\"".into()
            },
            ListEntry { key: "b&c/d".into(), ..ListEntry::default() },
        ]
    );
}

#[test]
fn an_empty_listing_with_a_prefix_on_every_element() {
    let xml =
        br#"<s3:ListBucketResult xmlns:s3="x"><s3:IsTruncated>false</s3:IsTruncated></s3:ListBucketResult>"#;
    assert_eq!(list(xml).unwrap(), ListPage { truncated: Some(false), ..ListPage::default() });
}

#[test]
fn pages_of_stores_that_write_otherwise() {
    for (text, truncated) in
        [("true", Some(true)), ("True", Some(true)), ("TRUE", Some(true)), ("False", Some(false)), ("", None)]
    {
        let xml = format!("<ListBucketResult><IsTruncated>{text}</IsTruncated></ListBucketResult>");
        assert_eq!(list(xml.as_bytes()).unwrap().truncated, truncated, "{text}");
    }
    for text in [
        "2009-10-12T17:50:30.000Z",
        "2009-10-12T17:50:30Z",
        "2009-10-12T19:50:30+02:00",
        "2009-10-12T17:50:30+0000",
        "2009-10-12T17:50:30.000",
        "2009-10-12 17:50:30",
        "Mon, 12 Oct 2009 17:50:30 GMT",
        "Mon Oct 12 17:50:30 2009",
        "Monday, 12-Oct-09 17:50:30 GMT",
    ] {
        let xml = format!(
            "<ListBucketResult><Contents><Key>a</Key><Size>1</Size><LastModified>{text}</LastModified></Contents>\
             </ListBucketResult>"
        );
        assert_eq!(
            list(xml.as_bytes()).unwrap().entries[0].modified,
            Some(Millis(1_255_369_830_000)),
            "{text}"
        );
    }
    let undated = b"<ListBucketResult><Contents><Key>a</Key><Size>1</Size><LastModified/></Contents></ListBucketResult>";
    assert_eq!(list(undated).unwrap().entries[0].modified, None);
    let grouped = |inner: &str| {
        let xml = format!("<ListBucketResult><CommonPrefixes>{inner}</CommonPrefixes></ListBucketResult>");
        list(xml.as_bytes()).unwrap().grouped
    };
    assert!(grouped("<Prefix>db/0000/</Prefix>") && !grouped("<Prefix/>") && !grouped(""));
    let first = list(b"<ListBucketResult><NextMarker>db/7</NextMarker></ListBucketResult>").unwrap();
    assert_eq!((first.marker.as_deref(), first.token), (Some("db/7"), None));
}

#[test]
fn listings_that_are_none() {
    for (xml, expected) in [
        ("<html><body>hello</body></html>", "the answer lacks ListBucketResult"),
        ("", "the answer is not the XML that S3 sends: it ends in the middle"),
        ("<ListBucketResult><Contents>", "the answer is not the XML that S3 sends: it ends in the middle"),
        (
            "<ListBucketResult><IsTruncated>perhaps\u{1b}[1m</IsTruncated></ListBucketResult>",
            r#"the answer holds "perhaps\u{1b}[1m" as IsTruncated"#,
        ),
        (
            "<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
            "the answer lacks the size of an object",
        ),
        (
            "<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
            "the answer lacks the key of an object",
        ),
        (
            "<ListBucketResult><Contents><Size>-1</Size></Contents></ListBucketResult>",
            r#"the answer holds "-1" as Size"#,
        ),
        (
            "<ListBucketResult><Contents><LastModified>soon</LastModified></Contents></ListBucketResult>",
            r#"the answer holds "soon" as LastModified"#,
        ),
    ] {
        assert_eq!(list(xml.as_bytes()).unwrap_err().to_string(), expected, "{xml}");
    }
    let deep = "<a>".repeat(100) + &"</a>".repeat(100);
    assert!(list(deep.as_bytes()).unwrap_err().to_string().contains("too deeply"));
    assert_eq!(list(&vec![b' '; limits::XML_BYTES + 1]), Err(XmlError::TooLong(limits::XML_BYTES + 1)));
}

#[test]
fn errors_of_several_stores_and_pages_that_are_none() {
    let aws = br#"<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'</Message><Region>eu-west-1</Region><RequestId>1</RequestId></Error>"#;
    let body = error(aws).unwrap();
    assert_eq!((body.code.as_str(), body.region.as_str()), ("AuthorizationHeaderMalformed", "eu-west-1"));

    let redirect =
        b"<Error><Code>PermanentRedirect</Code><Endpoint>b.s3-eu-west-1.amazonaws.com</Endpoint></Error>";
    assert_eq!(error(redirect).unwrap().endpoint, "b.s3-eu-west-1.amazonaws.com");

    let wrapped = b"<ErrorResponse xmlns='x'><Error><Code>Throttled</Code><Message>slow &lt;down&gt;</Message></Error></ErrorResponse>";
    let body = error(wrapped).unwrap();
    assert_eq!((body.code.as_str(), body.message.as_str()), ("Throttled", "slow <down>"));

    for none in [
        "<html><body><h1>502 Bad Gateway</h1></body></html>",
        "<!DOCTYPE html><html><br></html>",
        "oops",
        "",
        "<Error>",
    ] {
        assert_eq!(error(none.as_bytes()), None, "{none}");
    }
}

#[test]
fn uploads_and_copies() {
    let xml = b"<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>VXBsb2Fk</UploadId></InitiateMultipartUploadResult>";
    assert_eq!(upload_id(xml).unwrap(), "VXBsb2Fk");
    assert_eq!(upload_id(b"<x/>").unwrap_err(), XmlError::Missing("UploadId"));
    let xml = b"<CopyObjectResult><LastModified>2009-10-12T17:50:30.000Z</LastModified><ETag>&quot;9b2cf535&quot;</ETag></CopyObjectResult>";
    assert_eq!(copy_etag(xml, false).unwrap(), "\"9b2cf535\"");
    let xml = b"<CopyPartResult><ETag>\"9b2cf535\"</ETag></CopyPartResult>";
    assert_eq!(copy_etag(xml, true).unwrap(), "\"9b2cf535\"");
    assert_eq!(copy_etag(xml, false).unwrap_err(), XmlError::Missing("ETag"));
}

#[test]
fn deletions() {
    let xml = b"<DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>b</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error></DeleteResult>";
    let failed =
        DeleteError { key: "b".into(), code: "AccessDenied".into(), message: "Access Denied".into() };
    assert_eq!(delete_errors(xml).unwrap(), [failed]);
    assert_eq!(delete_errors(b"<DeleteResult xmlns='x'/>").unwrap(), []);
    assert_eq!(delete_errors(b"<html></html>").unwrap_err(), XmlError::Missing("DeleteResult"));
}

#[test]
fn documents_that_we_send() {
    assert_eq!(
        delete_request(["a&b", "c"]),
        "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Object><Key>a&amp;b</Key></Object>\
         <Object><Key>c</Key></Object><Quiet>true</Quiet></Delete>"
    );
    let parts = [
        Part { number: 1, etag: "\"a\"".into(), crc32: Some("AAAAAA==".into()) },
        Part { number: 2, etag: "b".into(), crc32: None },
    ];
    assert_eq!(
        complete_request(&parts),
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Part><PartNumber>1</PartNumber>\
         <ETag>&quot;a&quot;</ETag><ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part><Part><PartNumber>2</PartNumber>\
         <ETag>b</ETag></Part></CompleteMultipartUpload>"
    );
}
