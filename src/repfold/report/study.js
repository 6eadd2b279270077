"use strict";
// What the page of a study adds: tables that sort by a column, and the single runs of the arm under the pointer.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const number = (text) => {
    const found = text.match(/[-+]?\d+(\.\d+)?(e[-+]?\d+)?/);
    return found ? Number(found[0]) : NaN;
  };
  for (const table of document.querySelectorAll(".sortable table")) {
    const body = table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      head.tabIndex = 0;
      const sort = () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const numeric = head.classList.contains("n");
        const key = (row) => (numeric ? number(row.cells[column].textContent) : row.cells[column].textContent);
        const empty = (value) => (numeric ? Number.isNaN(value) : value === "");
        const order = (a, b) => {
          const [x, y] = [key(a), key(b)];
          if (empty(x) || empty(y)) return empty(x) - empty(y);
          return (numeric ? x - y : x.localeCompare(y)) * (up ? 1 : -1);
        };
        body.append(...[...body.rows].sort(order));
      };
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          sort();
        }
      });
    });
  }

  const hover = {};
  for (const script of document.querySelectorAll("script.hover")) Object.assign(hover, JSON.parse(script.textContent));
  for (const script of document.querySelectorAll("script.runs")) {
    for (const [id, arms] of Object.entries(JSON.parse(script.textContent))) {
      const svg = document.getElementById(id);
      const { x: [xl, xh, xa, xb], y: [yl, yh, ya, yb], series } = hover[id];
      const layer = document.createElementNS(SVG, "g");
      layer.setAttribute("class", "runs");
      svg.append(layer);
      const px = (x) => xa + ((x - xl) / (xh - xl)) * (xb - xa);
      const py = (y) => ya + ((y - yl) / (yh - yl)) * (yb - ya);
      let shown = null;
      const show = (style) => {
        if (style === shown) return;
        shown = style;
        layer.replaceChildren();
        for (const run of arms[style] ?? []) {
          const path = document.createElementNS(SVG, "path");
          const points = run.map((y, i) => (y === null ? "" : `${px(i + 1)} ${py(y)}`)).filter(Boolean);
          path.setAttribute("d", `M${points.join("L")}`);
          path.setAttribute("class", `line single c${style % 8}`);
          layer.append(path);
        }
      };
      const visible = (one) => !document.querySelector(`.series[data-style="${one.style}"][hidden]`);
      svg.addEventListener("pointermove", (event) => {
        const box = svg.getBoundingClientRect();
        const scale = svg.viewBox.baseVal.width / box.width;
        const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
        let best = [Infinity, null];
        for (const one of series.filter(visible)) {
          one.x.forEach((at, i) => {
            if (one.y[i] === null) return;
            const away = Math.hypot(px(at) - x, py(one.y[i]) - y);
            if (away < best[0]) best = [away, one.style];
          });
        }
        show(best[1]);
      });
      svg.addEventListener("pointerleave", () => show(null));
      for (const button of document.querySelectorAll(".legend button")) {
        button.addEventListener("pointerenter", () => show(Number(button.dataset.style)));
        button.addEventListener("pointerleave", () => show(null));
      }
    }
  }
})();
