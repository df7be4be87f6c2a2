"use strict";
/* Tables of the class "sorted": a click on a heading sorts by it, and a text in the field above leaves rows that hold it. */
const number = (text) => { const found = parseFloat(text.replace(/,/g, "")); return Number.isNaN(found) ? null : found; };
const compare = (a, b, sign) => {
  const [x, y] = [number(a), number(b)];
  if (x === null && y === null) return sign * a.localeCompare(b);
  return x === null ? 1 : y === null ? -1 : sign * (x - y);  /* what is no number comes last */
};
const sort = (table, head) => {
  const down = head.getAttribute("aria-sort") !== "descending";
  for (const other of table.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const text = (row) => row.cells[head.cellIndex].textContent.trim();
  const rows = [...table.rows].slice(1).sort((a, b) => compare(text(a), text(b), down ? -1 : 1));
  for (const row of rows) row.parentNode.append(row);
};
for (const table of document.querySelectorAll("table.sorted")) {
  for (const head of table.rows[0].cells) {
    if (head.classList.contains("drawn")) continue;
    head.tabIndex = 0;
    head.addEventListener("click", () => sort(table, head));
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(table, head); });
  }
  const field = table.closest("section").querySelector("input");
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    for (const row of [...table.rows].slice(1)) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
  field.closest("label").hidden = false;  /* without scripts there is no field that does nothing */
}
