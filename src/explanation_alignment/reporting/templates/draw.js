
"use strict";
(() => {
  const config = JSON.parse(document.getElementById("chart-config").textContent);
  for (const block of document.querySelectorAll("script.spec")) {
    const plot = block.previousElementSibling;
    vegaEmbed(plot, JSON.parse(block.textContent), {
      mode: "vega-lite",
      renderer: "svg",
      actions: false,
      ast: true, // expressions are interpreted, so that the page needs no eval
      config,
      tooltip: { disableDefaultStyle: true },
    })
      .then(() => plot.setAttribute("data-drawn", ""))
      .catch((error) => {
        plot.textContent = "This chart could not be drawn here; its numbers are below.";
        console.error(error);
      });
  }
  // on paper nothing can be unfolded
  const folded = () => document.querySelectorAll("details[data-print]:not([open])");
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...folded()];
    for (const part of opened) part.open = true;
  });
  addEventListener("afterprint", () => {
    for (const part of opened) part.open = false;
  });
})();
