"use strict";
// Interactive charts in place of the images, which stay for print and where a chart cannot be drawn.
for (const figure of document.querySelectorAll("figure")) {
  const specifications = Array.from(figure.querySelectorAll("script"), script => JSON.parse(script.textContent));
  if (!specifications.length) continue;
  const box = document.createElement("div"), image = figure.querySelector("img");
  box.className = "charts";
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", image.alt);
  image.before(box);
  const options = { actions: false, ast: true, renderer: "svg" };
  const views = specifications.map(specification => {
    const place = document.createElement("div");
    box.append(place);
    return vegaEmbed(place, specification, options);
  });
  Promise.all(views).then(() => image.classList.add("printed"), error => {
    console.error(error);
    box.remove();
  });
}
