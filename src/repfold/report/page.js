"use strict";
// The page is complete without this: it adds values under the pointer, arms that hide, and details that print.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const tooltip = document.getElementById("tooltip");
  const hidden = new Set();
  const charts = [];
  for (const script of document.querySelectorAll("script.hover")) {
    for (const [id, data] of Object.entries(JSON.parse(script.textContent))) {
      const svg = document.getElementById(id);
      const layer = svg.appendChild(document.createElementNS(SVG, "g"));
      charts.push({ svg, data, layer });
    }
  }

  const place = ([low, high, start, stop], value, log) => {
    const f = log ? Math.log10 : (v) => v;
    return start + ((f(value) - f(low)) / (f(high) - f(low))) * (stop - start);
  };
  const unplace = ([low, high, start, stop], at) => low + ((at - start) / (stop - start)) * (high - low);

  const written = (value, decimals) => {
    if (decimals !== null) return value.toFixed(decimals);
    const size = Math.abs(value);
    return size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  };

  // The index of the point of a series that lies nearest to x, -1 when the nearest is a gap.
  const nearest = (series, x) => {
    let best = -1;
    series.x.forEach((at, i) => {
      if (best < 0 || Math.abs(at - x) < Math.abs(series.x[best] - x)) best = i;
    });
    return best >= 0 && series.y[best] !== null ? best : -1;
  };

  const make = (name, attributes) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };

  const mark = (chart, x) => {
    const { data, layer } = chart;
    layer.replaceChildren();
    if (x === null) return;
    const at = place(data.x, x, false);
    layer.append(make("path", { class: "cursor", d: `M${at} ${data.y[2]}V${data.y[3]}` }));
    for (const series of data.series) {
      const i = nearest(series, x);
      if (hidden.has(series.style) || i < 0 || (data.log && series.y[i] <= 0)) continue;
      const [cx, cy] = [place(data.x, series.x[i], false), place(data.y, series.y[i], data.log)];
      layer.append(make("circle", { class: `ring c${series.style % 8}`, cx, cy, r: 4 }));
    }
  };

  const row = (series, i, decimals) => {
    const line = document.createElement("span");
    const key = document.querySelector(`.legend [data-style="${series.style}"] .swatch`);
    const value = document.createElement("em");
    const band = series.low && series.low[i] !== null && series.low[i] !== series.high[i];
    value.textContent = written(series.y[i], decimals) +
      (band ? ` (${written(series.low[i], decimals)} – ${written(series.high[i], decimals)})` : "");
    const swatch = key ? key.cloneNode(true) : document.createElement("i");
    swatch.querySelector(".line")?.classList.toggle("dashed", series.dashed);
    line.append(swatch, series.name, value);
    return line;
  };

  const tell = (chart, x) => {
    const { data, svg } = chart;
    const rows = [];
    for (const series of data.series) {
      const i = nearest(series, x);
      if (!hidden.has(series.style) && i >= 0) rows.push(row(series, i, data.decimals));
    }
    const title = document.createElement("b");
    title.textContent = `${data.label} ${x}`;
    tooltip.replaceChildren(title, ...rows);
    tooltip.hidden = rows.length === 0;
    const box = svg.getBoundingClientRect();
    const at = box.left + (place(data.x, x, false) / svg.viewBox.baseVal.width) * box.width;
    const width = tooltip.offsetWidth;
    const left = at + 16 + width < document.documentElement.clientWidth ? at + 16 : at - 16 - width;
    tooltip.style.transform = `translate(${Math.max(4, left) + scrollX}px, ${box.top + 12 + scrollY}px)`;
  };

  const show = (chart, x) => {
    chart.at = x;
    for (const other of charts) mark(other, x);
    if (x === null) tooltip.hidden = true;
    else tell(chart, x);
  };

  for (const chart of charts) {
    const { svg, data } = chart;
    const steps = [...new Set(data.series.flatMap((series) => series.x))].filter(Number.isInteger).sort((a, b) => a - b);
    const snap = (x) => steps.reduce((best, at) => (Math.abs(at - x) < Math.abs(best - x) ? at : best), steps[0]);
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      show(chart, snap(unplace(data.x, ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width)));
    });
    svg.addEventListener("pointerleave", () => show(chart, null));
    svg.addEventListener("blur", () => show(chart, null));
    svg.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity, Escape: NaN }[event.key];
      if (move === undefined) return;
      event.preventDefault();
      if (Number.isNaN(move)) return show(chart, null);
      const from = chart.at == null ? (move > 0 ? -1 : steps.length) : steps.indexOf(chart.at);
      show(chart, steps[Math.min(steps.length - 1, Math.max(0, from + move))]);
    });
  }

  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const style = Number(button.dataset.style);
      const on = hidden.delete(style);
      if (!on) hidden.add(style);
      for (const twin of document.querySelectorAll(`.legend [data-style="${style}"]`)) twin.setAttribute("aria-pressed", on);
      for (const line of document.querySelectorAll(`.series[data-style="${style}"]`)) line.toggleAttribute("hidden", !on);
    });
  }

  // Closed details would be missing on paper; the bulky ones are printed only when the reader has opened them.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open],.bulky)")];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of opened) one.open = false;
  });
})();
