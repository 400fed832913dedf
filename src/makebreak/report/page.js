"use strict";
// Sorting and filters of tables. Every table is complete without them.
for (const table of document.querySelectorAll("table.data")) {
  const body = table.tBodies[0], rows = Array.from(body.rows), box = table.closest(".scroll");
  const isMissing = text => text === "" || text === "n/a";
  const value = text => (/^[-+]?(\d|\.\d)/.test(text) ? parseFloat(text) : NaN);
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const keys = new Map(rows.map(row => [row, row.cells[column].textContent.trim()]));
      const isNumeric = rows.every(row => isMissing(keys.get(row)) || !isNaN(value(keys.get(row))));
      const compare = (a, b) => isNumeric ? value(a) - value(b) : a.localeCompare(b, "en", { numeric: true });
      rows.sort((one, other) => {
        const a = keys.get(one), b = keys.get(other);
        if (isMissing(a) || isMissing(b)) return isMissing(a) - isMissing(b); // last in either order
        return sign * compare(a, b);
      });
      body.append(...rows);
    });
  });
  if (rows.length < 8) continue;
  let filters = box.previousElementSibling;
  if (!filters || !filters.classList.contains("filters")) {
    filters = document.createElement("div");
    filters.className = "filters";
    box.before(filters);
  }
  const label = document.createElement("label"), search = document.createElement("input");
  const count = document.createElement("output"), selects = Array.from(filters.querySelectorAll("select"));
  search.type = "search";
  label.append("containing ", search);
  filters.append(label, count);
  filters.hidden = false;
  const texts = new Map(rows.map(row => [row, row.textContent.toLowerCase()]));
  const filter = () => {
    const words = search.value.toLowerCase(), tags = selects.map(select => select.value).filter(Boolean);
    let n = 0;
    for (const row of rows) {
      const own = (row.dataset.tags || "").split(" ");
      row.hidden = !texts.get(row).includes(words) || !tags.every(tag => own.includes(tag));
      n += !row.hidden;
    }
    count.value = `${n} of ${rows.length} rows`;
  };
  search.addEventListener("input", filter);
  for (const select of selects) select.addEventListener("change", filter);
  filter();
}
