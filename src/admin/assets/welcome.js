// The page that a one-time link leads to: what stands behind the address's # goes into the form, and out of the
// address, where it would stay for all to see.

const form = document.getElementById("welcome");

if (form && location.hash.length > 1) {
  document.getElementById("token").value = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
}
