use std::error::Error;

use chromiumoxide::Browser;
use futures_util::StreamExt;

async fn text_of(cdp_url: &str, page_url: &str) -> Result<Option<String>, Box<dyn Error>> {
    let (browser, mut handler) = Browser::connect(cdp_url).await?;
    let connection = tokio::spawn(async move { while handler.next().await.is_some() {} });
    let page = browser.new_page(page_url).await?;
    let text = page.find_element("body").await?.inner_text().await;
    page.close().await?;
    connection.abort(); // disconnects; Browser::close would end the browser for everybody
    Ok(text?)
}
