// Hands the page's list requests on to the network, as sites do that cache what they fetched. It leaves the push
// channels and the page itself alone.
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  if (new URL(event.request.url).pathname.startsWith("/api/v1/")) event.respondWith(fetch(event.request));
});
