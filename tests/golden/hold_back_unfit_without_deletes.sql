delete from "contact"."reject" where cause = 'unfit' and key in (select key from "contact"."touched");
