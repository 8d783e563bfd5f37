"""The pages: one module a subject. A page takes what was asked and returns the variables of its template."""
