// Loads the page again, and keeps the details open that were open. The browser keeps the place.
const key = "ratectl-open-details";
const opened = JSON.parse(sessionStorage.getItem(key) || "[]");
for (const id of opened) {
  const inner = document.getElementById(id);
  if (inner) inner.parentElement.open = true;
}
addEventListener("toggle", () => {
  const inner = [...document.querySelectorAll("details[open] > .inner")];
  sessionStorage.setItem(key, JSON.stringify(inner.map((each) => each.id)));
}, true);
const seconds = Number(document.body.dataset.refresh);
if (seconds) setInterval(() => document.hidden || location.reload(), 1000 * seconds);
