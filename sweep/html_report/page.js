(() => {
  // Buttons are made here: where scripts are off there is nothing that does not work.
  const button = (label, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = label;
    made.addEventListener("click", async () => {
      const done = await act();
      if (done) { made.textContent = done; setTimeout(() => { made.textContent = label; }, 1500); }
    });
    return made;
  };

  const copy = async (source) => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      return "copied";
    } catch {
      // A page that was opened from a file may have no clipboard: then the text is selected and copied the old way.
      getSelection().selectAllChildren(source);
      return document.execCommand("copy") ? "copied" : "selected";
    }
  };

  const save = async (source) => {
    const bytes = Uint8Array.from(atob(source.textContent.trim()), (letter) => letter.charCodeAt(0));
    const packed = new Blob([bytes], { type: "application/gzip" });
    const unpacks = typeof DecompressionStream !== "undefined";
    const blob = unpacks
      ? await new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).blob() : packed;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = source.dataset.name + (unpacks ? "" : ".gz");
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    return "saved";
  };

  // A browser prints a plot as wide as it was on the screen, so each is drawn anew, to the width of a page.
  const fit = (widthOf) => {
    for (const plot of document.querySelectorAll(".js-plotly-plot")) Plotly.relayout(plot, { width: widthOf(plot) });
  };
  addEventListener("beforeprint", () => fit((plot) => (plot.closest(".side-by-side") ? 330 : 680)));
  addEventListener("afterprint", () => {
    fit(() => null);
    dispatchEvent(new Event("resize"));
  });

  for (const pre of document.querySelectorAll("pre")) {
    const around = document.createElement("div");
    around.className = "copied";
    pre.replaceWith(around);
    around.append(pre, button("copy", () => copy(pre.firstElementChild)));
  }
  for (const source of document.querySelectorAll("script[data-name]")) {
    source.before(button(source.dataset.name, () => save(source)), " ");
  }
})();
