"use strict";
// The page shows all content without this script. The script adds filters, sorting and copy buttons, and marks ended artifacts.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = id => document.getElementById(id);
  const said = one("said"), body = document.querySelector("tbody"), rows = all("tbody tr"), parts = all("details");

  const now = new Date(), two = number => String(number).padStart(2, "0");
  const today = now.getFullYear() + "-" + two(now.getMonth() + 1) + "-" + two(now.getDate());
  for (const time of all("time.tag")) {
    if (time.dateTime <= today && !time.matches(".bad")) { time.className = "tag bad"; time.textContent = "ended " + time.dateTime; }
  }
  const ends = one("ends");
  if (ends) {
    const count = rows.filter(row => row.querySelector("time.bad")).length, [value, note] = all("dd", ends);
    note.textContent = "of " + value.textContent + " with an end-of-life date, on " + today;
    ends.querySelector("dt").textContent = "Past end of life";
    ends.className = count ? "bad" : "";
    value.textContent = count;
  }

  const make = (text, label, act) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    if (label) button.setAttribute("aria-label", label);
    button.addEventListener("click", () => act(button));
    return button;
  };
  const copy = async (button, text, place) => {
    try { await navigator.clipboard.writeText(text); }
    catch {
      const chosen = getSelection(), range = document.createRange();
      range.selectNodeContents(place); chosen.removeAllRanges(); chosen.addRange(range); document.execCommand("copy");
    }
    const before = button.textContent;
    if (before !== "Copied") { button.textContent = "Copied"; setTimeout(() => { button.textContent = before; }, 1500); }
    said.textContent = "Copied";
  };
  const ready = root => {
    for (const place of all(".copy", root)) {
      const code = place.querySelector("code");
      if (!place.querySelector("button")) place.append(make("Copy", "Copy " + code.textContent, button => copy(button, code.textContent, code)));
    }
  };
  const images = one("images");
  if (images) {
    const text = all("code:first-child", images).map(code => code.textContent).join("\n");
    images.parentNode.querySelector(".head").append(make("Copy all images", "", button => copy(button, text, images)));
  }

  // Close the details if there are more than two. A link from the table opens one; printing opens all.
  const reveal = () => { const part = /^#a\d+$/.test(location.hash) && one(location.hash.slice(1)); if (part) part.open = true; };
  for (const part of parts) {
    part.addEventListener("toggle", () => { if (part.open) ready(part); });
    if (parts.length > 2) part.open = false;
  }
  for (const start of all(".start")) ready(start);
  for (const part of parts) if (part.open) ready(part);
  addEventListener("hashchange", reveal);
  document.addEventListener("click", event => { if (event.target.closest?.("tbody a")) setTimeout(reveal); });
  reveal();
  let closed = [];
  addEventListener("beforeprint", () => { closed = parts.filter(part => !part.open); for (const part of parts) part.open = true; });
  addEventListener("afterprint", () => { for (const part of closed) part.open = false; });
  if (!rows.length) return;
  one("details").append(make("Open all", "", () => { for (const part of parts) part.open = true; }), make("Close all", "", () => { for (const part of parts) part.open = false; }));
  one("details").lastChild.before(" ");

  // In a narrow window, rows are displayed as blocks. Roles make screen readers still read them as a table.
  document.documentElement.classList.add("live");
  for (const [selector, role] of [["table", "table"], ["thead, tbody", "rowgroup"], ["tr", "row"], ["thead th", "columnheader"], ["tbody th", "rowheader"], ["td", "cell"]]) {
    for (const element of all(selector, body.parentNode.parentNode)) element.setAttribute("role", role);
  }

  const order = new Intl.Collator("en", { numeric: true });
  const key = (row, column) => row.cells[column].dataset.key ?? row.cells[column].textContent;
  all("thead th").forEach((head, column) => {
    const isNumber = rows[0].cells[column].matches("[data-key]");
    head.replaceChildren(make(head.textContent, "", () => {
      const isUp = head.getAttribute("aria-sort") !== "ascending", keyed = rows.map(row => [key(row, column), row]);
      for (const other of all("thead th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", isUp ? "ascending" : "descending");
      keyed.sort(([a], [b]) => (isUp ? 1 : -1) * (isNumber ? a - b : order.compare(a, b)));
      body.append(...keyed.map(([, row]) => row));
    }));
  });

  const filters = one("filters"), search = one("search"), choices = all("select", filters), count = one("count");
  let texts;
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length) texts ??= rows.map((row, number) => (row.textContent + " " + parts[number].textContent).toLowerCase());
    let shown = 0;
    rows.forEach((row, number) => {
      const fits = words.every(word => texts[number].includes(word)) && choices.every(({ id, value }) => !value || value === (
        id === "state" ? (row.querySelector("time.bad") ? "ended" : row.querySelector("time") ? "later" : "none") : row.dataset[id]));
      row.hidden = parts[number].hidden = !fits;
      shown += fits;
    });
    count.textContent = shown === rows.length ? "" : shown + " of " + rows.length + " shown";
  };
  filters.append(make("Reset", "Reset the filters", () => { search.value = ""; for (const choice of choices) choice.value = ""; apply(); search.focus(); }), count);
  filters.addEventListener("input", apply);
  filters.hidden = false;
  apply();
})();
