// Keeps a part of the page fresh: data-poll names its address. It stops when the part no longer
// asks for it. After a while it asks the server to look at the payment itself (?ask).
(() => {
  const PATIENCE = 8;
  const part = document.querySelector("[data-poll]");
  if (!part) return;
  let polls = 0;
  const look = async () => {
    polls += 1;
    const url = new URL(part.dataset.poll, location.href);
    if (polls > PATIENCE && polls % 3 === 0) url.searchParams.set("ask", "1");
    try {
      const response = await fetch(url, { credentials: "same-origin" });
      if (response.ok) part.innerHTML = await response.text();
    } catch {
      // The network is away: the next look may find it again.
    }
    if (part.querySelector("[data-wait]")) setTimeout(look, polls < PATIENCE ? 1000 : 4000);
  };
  if (part.querySelector("[data-wait]")) setTimeout(look, 1000);
})();
