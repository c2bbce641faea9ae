"use strict";
// The OpenAPI description of this server as a page: operations, what they take, and what they answer.

const make = (name, text) => {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  return element;
};

const nameOf = (schema) => schema.$ref.split("/").pop();

function body(content) {
  const schema = content && content["application/json"] && content["application/json"].schema;
  if (!schema) return "";
  return (schema.oneOf || [schema]).filter((each) => each.$ref).map(nameOf).join(" or ");
}

function operation(path, method, about) {
  const section = make("section");
  const title = make("h2");
  title.append(make("code", `${method.toUpperCase()} ${path}`));
  section.append(title, make("p", about.description || about.summary || ""));
  const takes = about.requestBody && body(about.requestBody.content);
  if (takes) section.append(make("p", `takes ${takes}`));
  const list = make("ul");
  for (const [status, reply] of Object.entries(about.responses || {})) {
    const name = body(reply.content);
    list.append(make("li", `${status}: ${reply.description}${name ? ` (${name})` : ""}`));
  }
  section.append(list);
  return section;
}

async function start() {
  const description = await (await fetch("/openapi.json")).json();
  const main = document.getElementById("operations");
  main.replaceChildren(make("p", description.info.description));
  for (const [path, methods] of Object.entries(description.paths))
    for (const [method, about] of Object.entries(methods)) main.append(operation(path, method, about));
  main.append(make("h2", "Schemas"));
  for (const [name, schema] of Object.entries(description.components.schemas)) {
    const details = make("details");
    details.append(make("summary", name), make("pre", JSON.stringify(schema, null, 2)));
    main.append(details);
  }
}

start().catch(() => { document.getElementById("status").textContent = "The server can't be reached."; });
