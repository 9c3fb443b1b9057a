// Building the page's nodes: elements from names, properties and children. Text only ever becomes text nodes.

/** el("p.note", {title: "x", onclick: f}, "text", node, ...): an element; null and false children are left out. */
export function el(spec, properties = {}, ...children) {
  const [name, ...classes] = spec.split(".");
  const node = document.createElement(name || "div");
  if (classes.length) node.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) set(node, key, value);
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

function set(node, key, value) {
  if (value === null || value === undefined || value === false) return;
  if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
  else if (key in node && !key.startsWith("aria")) node[key] = value;
  else node.setAttribute(key, value === true ? "" : value);
}

/** Put `children` in the place of what `node` holds. */
export function fill(node, ...children) {
  node.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Change a node's text only where it differs, so that selections and screen readers are left in peace. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
  return node;
}

/** A button that copies what `text()` gives, and says so for a moment. */
export function copyButton(text, label = "Copy") {
  const button = el("button.quiet.copy", { type: "button" }, label);
  button.addEventListener("click", async () => {
    say(button, (await copied(text())) ? "Copied" : "Not allowed");
    setTimeout(() => say(button, label), 1500);
  });
  return button;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
