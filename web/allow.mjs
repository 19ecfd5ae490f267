/** Which hosts the page may ask, as its content security policy says. */

/** The page's HTML, with these hosts allowed beside Algolia's own. */
export function allow(html, hosts) {
  const origins = hosts.map((host) => host.replace(/^(https?:\/\/[^/]+).*$/, '$1'));
  return html.replace('https://*.algolianet.com', (own) => [own, ...origins].join(' '));
}
