// The login page with the code to scan: asks every moment whether the owner's phone has confirmed it, and sends the code
// that came by SMS. Once logged in it goes on to the creator page at the same URL.
"use strict";

const ASK_EVERY_MS = 500;
const form = document.getElementById("login");
const token = document.body.dataset.token;

function enter() { location.replace("/creator/inbox"); }

async function ask() {
  try {
    const response = await fetch(`/creator/qr/state?${new URLSearchParams({ token })}`, { cache: "no-store" });
    const { state } = await response.json();
    if (state === "confirmed") return enter();
    if (state === "worthless") {
      document.getElementById("renew").hidden = false;
      document.getElementById("qr").style.opacity = 0.1;
      return;
    }
  } catch {
    // The site is away for a moment: it is asked again.
  }
  setTimeout(ask, ASK_EVERY_MS);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const error = form.querySelector(".error");
  error.textContent = "";
  try {
    const response = await fetch("/creator/verify", { method: "POST", body: new URLSearchParams(new FormData(form)) });
    if (response.ok) return enter();
    error.textContent = "验证码错误 Wrong code";
  } catch {
    error.textContent = "网络错误，请重试 Network error";
  }
  document.getElementById("code").select();
});
document.getElementById("renew").addEventListener("click", () => location.reload());
ask();
